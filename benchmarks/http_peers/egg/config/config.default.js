'use strict';
exports.keys = 'benchmark';
exports.cluster = { listen: { hostname: '127.0.0.1' } };

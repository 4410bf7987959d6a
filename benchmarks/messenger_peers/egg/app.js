'use strict';
const Station = require('./station');
module.exports = class {
  constructor(app) { this.app = app; }
  async didLoad() { this.app.station = new Station(this.app.messenger, process.pid, false); }
};

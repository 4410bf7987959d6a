'use strict';
// The file that `egg-scripts start` spawns, less its command line.
require('egg').startCluster(JSON.parse(process.argv[2]));

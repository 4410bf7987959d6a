'use strict';
const Station = require('./station');
module.exports = class {
  constructor(agent) { this.agent = agent; }
  async didLoad() { this.agent.station = new Station(this.agent.messenger, process.pid, true); }
};

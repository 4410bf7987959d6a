'use strict';
// Both ends of Egg's measurements, task for task what cluster_station.py does. Runs in Egg's agent and app workers.
const LOAD_TICK = 1; // ms
const LOAD_START = 50; // ms

const now = () => performance.now() / 1000;
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));
const nextTurn = () => new Promise(resolve => setImmediate(resolve));

module.exports = class Station {
  constructor(messenger, pid, isAgent) {
    this.messenger = messenger;
    this.pid = pid;
    this.counted = 0;
    this.reports = [];
    this.onReport = () => {};
    this.sendData = isAgent
      ? (action, data) => messenger.sendToApp(action, data)
      : (action, data) => messenger.sendToAgent(action, data);
    messenger.on('data', () => { this.counted++; });
    messenger.on('end', sender => this.report(sender));
    messenger.on('arrived', count => { this.reports.push(count); this.onReport(); });
    messenger.on('ping', ([ sender, payload ]) => messenger.sendTo(sender, 'pong', payload));
    messenger.on('pong', payload => this.nextPing(payload));
    messenger.on('load', order => this.switchLoad(order));
    messenger.on('broadcast', task => this.answerBroadcast(task));
    messenger.on('broadcasted', result => this.broadcasted(result));
  }

  report(sender) {
    this.messenger.sendTo(sender, 'arrived', this.counted);
    this.counted = 0;
  }

  async flood({ size, count, batch, receivers }) {
    const payload = 'x'.repeat(size);
    const began = now();
    for (let first = 0; first < count; first += batch) {
      for (let n = Math.min(batch, count - first); n > 0; n--) this.sendData('data', payload);
      await nextTurn();
    }
    const counts = await this.askCounts(receivers);
    if (counts.some(counted => counted !== count)) throw new Error(`lost messages: sent ${count}, counted ${counts}`);
    return now() - began;
  }

  async askCounts(receivers) {
    const complete = new Promise(resolve => {
      this.onReport = () => { if (this.reports.length >= receivers) resolve(); };
    });
    this.sendData('end', this.pid);
    await complete;
    return this.reports.splice(0);
  }

  ping(size, seconds) {
    this.laps = [];
    this.pingDeadline = now() + seconds;
    const pinged = new Promise(resolve => { this.onPinged = resolve; });
    this.sendPing('x'.repeat(size));
    return pinged;
  }

  sendPing(payload) {
    this.lapBegan = now();
    this.messenger.sendToAgent('ping', [ this.pid, payload ]);
  }

  nextPing(payload) {
    const arrived = now();
    this.laps.push(arrived - this.lapBegan);
    if (arrived < this.pingDeadline) this.sendPing(payload);
    else this.onPinged(this.laps);
  }

  switchLoad({ by, rate, size }) {
    this.loading = null;
    if (rate && by !== this.pid) this.keepLoading(rate, 'x'.repeat(size), this.loading = {});
  }

  async keepLoading(rate, payload, token) {
    const began = now();
    let sent = 0;
    while (this.loading === token) {
      const due = Math.floor((now() - began) * rate);
      for (; sent < due; sent++) this.sendData('data', payload);
      await sleep(LOAD_TICK);
    }
  }

  async underLoad({ size, seconds, rate, bulk }) {
    if (rate) {
      this.messenger.sendToApp('load', { by: this.pid, rate, size: bulk });
      await sleep(LOAD_START);
    }
    await this.askCounts(1);
    const began = now();
    const laps = await this.ping(size, seconds);
    const load = (await this.askCounts(1))[0] / (now() - began);
    if (rate) {
      this.messenger.sendToApp('load', { by: this.pid, rate: 0 });
      await sleep(LOAD_START);
      await this.askCounts(1);
    }
    return { laps, load };
  }

  // Egg has no request: the agent's result comes back as a message.
  broadcast(order) {
    const result = new Promise(resolve => { this.broadcasted = resolve; });
    this.messenger.sendToAgent('broadcast', { ...order, by: this.pid });
    return result;
  }

  async answerBroadcast(order) {
    const result = await this.flood(order).then(seconds => ({ seconds }), error => ({ error: String(error) }));
    this.messenger.sendTo(order.by, 'broadcasted', result);
  }

  async run(task, numbers) {
    if (task === 'ping') return await this.underLoad(numbers);
    if (task === 'flood') return { seconds: await this.flood(numbers) };
    return await this.broadcast(numbers);
  }
};

'use strict';
// What is compared is the process model: a bare handler takes the place of Egg's own (Koa and its middleware, 40 µs a
// request), as a bare ASGI callable is what the Python servers serve.
const HEADERS = { 'content-type': 'text/plain; charset=utf-8' };

module.exports = class {
  constructor(app) { this.app = app; }
  async serverDidReady() {
    this.app.server.removeAllListeners('request');
    this.app.server.on('request', (request, response) => {
      const body = request.url === '/pid' ? String(process.pid) : 'hello world';
      response.writeHead(200, { ...HEADERS, 'content-length': body.length });
      response.end(body);
    });
  }
};

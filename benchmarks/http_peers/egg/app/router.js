'use strict';
module.exports = app => {
  app.router.get('/', async ctx => { ctx.body = 'hello world'; });
  app.router.get('/pid', async ctx => { ctx.body = String(process.pid); });
};

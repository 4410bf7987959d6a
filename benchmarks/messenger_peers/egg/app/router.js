'use strict';
module.exports = app => {
  app.router.get('/', async ctx => {
    const { task, ...numbers } = ctx.query;
    for (const name of Object.keys(numbers)) numbers[name] = Number(numbers[name]);
    try {
      ctx.body = await app.station.run(task, numbers);
    } catch (error) {
      ctx.body = { error: String(error) };
    }
  });
};

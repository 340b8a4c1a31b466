'use strict';

// The package is ESM. A CommonJS service gets the same functions; the ones that open something are async anyway, so
// loading the ESM is part of their waiting.
const load = () => import('../dist/src/index.js');

module.exports = {
  /** @type {typeof import('../dist/src/index.js').openRuntime} */
  openRuntime: async (...args) => (await load()).openRuntime(...args),
  /** @type {typeof import('../dist/src/index.js').createServer} */
  createServer: async (...args) => (await load()).createServer(...args),
  /** The whole ESM module, for what is not async: `const { tensor, ServingError } = await load()`. */
  load,
};

'use strict';

// The package is ESM. A CommonJS service gets the same functions; the ones that open something are async anyway, so
// loading the ESM is part of their waiting.
const load = () => import('../dist/src/index.js');

module.exports = {
  /** @type {typeof import('../dist/src/index.js').openRuntime} */
  openRuntime: async (...args) => (await load()).openRuntime(...args),
  /** @type {typeof import('../dist/src/index.js').createServer} */
  createServer: async (...args) => (await load()).createServer(...args),
  /** @type {typeof import('../dist/src/index.js').openTable} */
  openTable: async (...args) => (await load()).openTable(...args),
  /** @type {typeof import('../dist/src/index.js').buildTable} */
  buildTable: async (...args) => (await load()).buildTable(...args),
  /** @type {typeof import('../dist/src/index.js').compactTable} */
  compactTable: async (...args) => (await load()).compactTable(...args),
  /** @type {typeof import('../dist/src/index.js').diffTables} */
  diffTables: async (...args) => (await load()).diffTables(...args),
  /** @type {typeof import('../dist/src/index.js').writeDelta} */
  writeDelta: async (...args) => (await load()).writeDelta(...args),
  /** The whole ESM module, for what is not async: `const { tensor, ServingError } = await load()`. */
  load,
};

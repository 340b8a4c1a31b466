import type * as module_ from '../dist/src/index.js' with { 'resolution-mode': 'import' };

/** See the ESM door. */
export declare const openRuntime: typeof module_.openRuntime;
/** See the ESM door. */
export declare const createServer: typeof module_.createServer;
/** The whole ESM module, for what is not async. */
export declare function load(): Promise<typeof module_>;

import type * as module_ from '../dist/src/index.js' with { 'resolution-mode': 'import' };

/** See the ESM door. */
export declare const openRuntime: typeof module_.openRuntime;
/** See the ESM door. */
export declare const createServer: typeof module_.createServer;
/** See the ESM door. */
export declare const openTable: typeof module_.openTable;
/** See the ESM door. */
export declare const buildTable: typeof module_.buildTable;
/** See the ESM door. */
export declare const compactTable: typeof module_.compactTable;
/** See the ESM door. */
export declare const diffTables: typeof module_.diffTables;
/** See the ESM door. */
export declare const writeDelta: typeof module_.writeDelta;
/** The whole ESM module, for what is not async. */
export declare function load(): Promise<typeof module_>;

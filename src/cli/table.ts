/** `table`: building sparse tables and looking after them, one file for each subcommand. */
import type { Command } from 'commander';
import { registerTableBuild } from './table-build.js';
import { registerTableLooks } from './table-look.js';
import { registerTableRebuilds } from './table-rebuild.js';

/** Adds `table` to the program. */
export function registerTable(program: Command): void {
  const table = program
    .command('table')
    .description('Build sparse tables of rows by 64-bit key, and look after them.');
  registerTableBuild(table);
  registerTableLooks(table);
  registerTableRebuilds(table);
}

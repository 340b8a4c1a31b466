/** `warmup`: files of requests that versions run before they are ready, one file for each kind of subcommand. */
import type { Command } from 'commander';
import { registerWarmUpLooks } from './warmup-look.js';
import { registerWarmUpMake } from './warmup-make.js';

/** Adds `warmup` to the program. */
export function registerWarmUp(program: Command): void {
  const warmUp = program
    .command('warmup')
    .description('Make, record and look at the requests that a version runs before it is ready.');
  registerWarmUpMake(warmUp);
  registerWarmUpLooks(warmUp);
}

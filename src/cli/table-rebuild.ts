/** `table compact` and `diff`: versions made of other versions. */
import type { Command } from 'commander';
import type { BuiltVersion } from '../sparse/builder.js';
import type { RebuildOptions } from '../sparse/rebuild.js';
import { type BuildMeter, openBuildMeter } from './build-meter.js';
import { memorySize } from './table-build.js';
import { versionOption } from './table-look.js';
import { alignedText } from './table-text.js';
import { untilSignal } from './until-signal.js';

type Output = { write(text: string): unknown };

interface RebuildFlags {
  readonly version?: number;
  readonly memory_limit?: number;
}

/** Adds `compact` and `diff` to `table`. They throw what `compactTable`, `diffTables` and `writeDelta` do. */
export function registerTableRebuilds(
  table: Command,
  stdout: Output = process.stdout,
  stderr: NodeJS.WriteStream = process.stderr,
): void {
  const memory = '--memory_limit <size>';
  const memoryText = 'memory for buffers (default: 1g, at most a quarter of the memory)';
  table
    .command('compact')
    .description('Fold a version and the deltas below it into a snapshot, as the next version.')
    .argument('<table>', 'directory of a table, or of one of its versions')
    .addOption(versionOption())
    .option(memory, memoryText, memorySize)
    .action(async (directory: string, flags: RebuildFlags) => {
      const { compactTable } = await import('../sparse/rebuild.js');
      const version = flags.version === undefined ? {} : { version: flags.version };
      const built = await withMeter(flags, stderr, (options) =>
        compactTable(directory, { ...options, ...version }),
      );
      stdout.write(
        `version ${built.manifest.version}: ${built.manifest.rows} rows, as version ${built.manifest.compacts} has them; ` +
          `in ${built.directory}\n`,
      );
    });
  table
    .command('diff')
    .description('Say how table B differs from table A, or write the delta that turns A into B.')
    .argument('<a>', 'directory of a table, or of one of its versions')
    .argument('<b>', 'directory of a table, or of one of its versions')
    .option(
      '-o, --output <table>',
      'write the delta, as the next version of this table, which holds that of A',
    )
    .option(memory, memoryText, memorySize)
    .action(async (a: string, b: string, flags: RebuildFlags & { readonly output?: string }) => {
      const { diffTables, writeDelta } = await import('../sparse/rebuild.js');
      if (flags.output === undefined) {
        const { from, to, difference } = await diffTables(a, b);
        stdout.write(
          `${alignedText([
            ['from', from.label],
            ['to', to.label],
            ['added', String(difference.added)],
            ['changed', String(difference.changed)],
            ['removed', String(difference.removed)],
          ])}\n`,
        );
        return;
      }
      const output = flags.output;
      const built = await withMeter(flags, stderr, (options) => writeDelta(a, b, output, options));
      const { version, parent, rows, deletes } = built.manifest;
      stdout.write(
        `version ${version}: a delta on version ${parent} with ${rows} rows and ${deletes} deletes; in ${built.directory}\n`,
      );
    });
}

async function withMeter(
  flags: RebuildFlags,
  stderr: NodeJS.WriteStream,
  work: (options: RebuildOptions) => Promise<BuiltVersion>,
): Promise<BuiltVersion> {
  let meter: BuildMeter | undefined;
  try {
    return await untilSignal((signal) =>
      work({
        ...(flags.memory_limit === undefined ? {} : { memoryLimit: flags.memory_limit }),
        signal,
        onStart: (progress) => {
          meter = openBuildMeter(progress, stderr);
        },
      }),
    );
  } finally {
    meter?.close();
  }
}

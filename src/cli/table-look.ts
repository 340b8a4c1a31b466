/** `table info`, `get` and `verify`: looking at a table. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { LocalTable } from '../sparse/local-table.js';
import { alignedText, durationText } from './table-text.js';

type Output = { write(text: string): unknown };

interface LookFlags {
  readonly version?: number;
}

/** Adds `info`, `get` and `verify` to `table`. They throw what opening a table does. */
export function registerTableLooks(table: Command, stdout: Output = process.stdout): void {
  table
    .command('info')
    .description('What a version of a table is made of.')
    .argument('<table>', 'directory of a table, or of one of its versions')
    .addOption(versionOption())
    .option('--json', 'print the manifests as JSON')
    .action(async (directory: string, flags: LookFlags & { readonly json?: boolean }) => {
      stdout.write(await describe(directory, flags));
    });
  table
    .command('get')
    .description('Print the rows of keys as key:values. Ends with 1 when a key is missing.')
    .argument('<table>', 'directory of a table, or of one of its versions')
    .argument('<key...>', 'keys, decimal', collectKey)
    .addOption(versionOption())
    .addOption(
      new Option('--values <form>', 'how rows of bytes are printed').choices(['text', 'hex']).default('text'),
    )
    .action(
      async (
        directory: string,
        keys: readonly bigint[],
        flags: LookFlags & { readonly values: 'text' | 'hex' },
      ): Promise<void> => {
        const { openTable } = await import('../sparse/table.js');
        using opened = await openTable(directory, versionOf(flags));
        for (const key of keys) {
          const text = rowText(opened, key, flags.values);
          if (text === undefined) process.exitCode = 1;
          stdout.write(`${key}:${text ?? ' missing'}\n`);
        }
      },
    );
  table
    .command('verify')
    .description(
      'Compare every block of every file of a version with its checksum, and every key with its place.',
    )
    .argument('<table>', 'directory of a table, or of one of its versions')
    .addOption(versionOption())
    .action(async (directory: string, flags: LookFlags) => {
      const { resolveTable, verifyTable } = await import('../sparse/table.js');
      const resolved = await resolveTable(directory, versionOf(flags));
      const startedAt = performance.now();
      const bytes = await verifyTable(resolved, (path, size) => stdout.write(`ok ${path} ${size} bytes\n`));
      stdout.write(
        `${resolved.label}: ${bytes} bytes are sound, ${durationText(performance.now() - startedAt)}\n`,
      );
    });
}

/** The option that picks a version. */
export function versionOption(): Option {
  return new Option('--version <n>', 'version to look at (default: the newest)').argParser((text: string) => {
    if (/^[1-9]\d{0,15}$/.test(text)) return Number(text);
    throw new InvalidArgumentError('Expected a whole number of at least 1.');
  });
}

function versionOf({ version }: LookFlags): { readonly version?: number } {
  return version === undefined ? {} : { version };
}

function collectKey(text: string, before: readonly bigint[] = []): readonly bigint[] {
  if (/^\d{1,20}$/.test(text) && BigInt(text) < 1n << 64n) return [...before, BigInt(text)];
  throw new InvalidArgumentError('Expected a key from 0 to 18446744073709551615.');
}

function rowText(table: LocalTable, key: bigint, values: 'text' | 'hex'): string | undefined {
  const stored = table.storedRow(key);
  if (!stored) return undefined;
  if (table.dtype === 'bytes') return Buffer.from(stored).toString(values === 'hex' ? 'hex' : 'utf8');
  return Array.from(table.gather(BigUint64Array.of(key)).rows, shortest).join(' ');
}

/** The shortest decimal that reads back as the same float32. */
function shortest(value: number): string {
  if (Object.is(value, -0)) return '-0';
  // Nine digits tell every float32 from the next; what is left are NaN and the infinities.
  for (let digits = 1; digits <= 9; digits++) {
    const text = value.toPrecision(digits);
    if (Math.fround(Number(text)) === value) return String(Number(text));
  }
  return String(value);
}

async function describe(directory: string, flags: LookFlags & { readonly json?: boolean }): Promise<string> {
  const { resolveTable } = await import('../sparse/table.js');
  const { countRows, manifestsOf } = await import('../sparse/rebuild.js');
  const resolved = await resolveTable(directory, versionOf(flags));
  const manifests = await manifestsOf(resolved);
  if (flags.json) return `${JSON.stringify(manifests, null, 2)}\n`;
  const { manifest } = resolved;
  const rows = await countRows(resolved);
  const bytes = manifests.flatMap(({ files }) => files).reduce((sum, file) => sum + file.bytes, 0);
  const facts = [
    ['table', `${manifest.table} version ${manifest.version}`],
    ['directory', resolved.directory],
    ['rows', `${rows} of ${manifest.dtype}${manifest.dim > 0 ? ` x ${manifest.dim}` : ''}`],
    ['shards', String(manifest.shard_num)],
    ['bytes', `${bytes}${rows > 0 ? `, ${(bytes / rows).toFixed(1)} a row` : ''}`],
    ['default row', manifest.default_row ? 'yes' : 'none'],
    ...(resolved.model ? [['model', `${resolved.model.name} version ${resolved.model.version}`]] : []),
  ];
  const versions = manifests.map(({ version, kind, parent, rows, deletes, created, compacts }) => [
    String(version),
    kind === 'delta' ? `delta on ${parent}` : compacts ? `snapshot of ${compacts}` : 'snapshot',
    String(rows),
    String(deletes),
    created,
  ]);
  return `${alignedText(facts)}\n\n${alignedText([['VERSION', 'KIND', 'ROWS', 'DELETES', 'CREATED'], ...versions])}\n`;
}

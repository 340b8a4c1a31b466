/** The schemas as text: what a setting takes and defaults to, and the pages of `docs/` that list them. */
import type { TSchema } from 'typebox';
import { embeddingSettingKeys, embeddingSettingsSchema } from './embedding-settings.js';
import { modelSettingKeys } from './model-settings.js';
import { monitorSettings } from './monitor-settings.js';
import { expectationOf } from './problems.js';
import { type Setting, settingGroups, settings } from './schema.js';
import { envPrefix } from './sources.js';
import { trafficSettingTables } from './traffic-settings.js';

/** A number of bytes in the largest unit that divides it: "64mb". */
export function formatByteSize(bytes: number): string {
  const units = ['', 'kb', 'mb', 'gb', 'tb'];
  let power = 0;
  let size = bytes;
  while (size > 0 && size % 1024 === 0 && power < units.length - 1) {
    size /= 1024;
    power++;
  }
  return `${size}${units[power]}`;
}

/** The default of a setting in words; undefined where it has none. */
export function defaultTextOf(schema: Setting['schema']): string | undefined {
  if (schema.defaultText !== undefined) return schema.defaultText;
  if (schema.default === undefined) return undefined;
  if (Array.isArray(schema.default)) return 'none';
  return schema.bytes ? formatByteSize(Number(schema.default)) : String(schema.default);
}

/** The page `docs/configuration.md`. */
export function configurationPage(): string {
  const parts = [
    '# Configuration',
    '',
    'This page is printed from `src/config/schema.ts`; a test fails when it is stale',
    '(`UPDATE_DOCS=1 node --test dist/test/config/docs.test.js` writes it anew).',
    '',
    'Every setting of `onnx-serving serve` has one name and three places: the flag `--port`, the environment variable',
    `\`${envPrefix}PORT\`, and the key \`port\` of the YAML or JSON file that \`--config\` or \`${envPrefix}CONFIG\` names.`,
    'A flag wins over the environment, the environment over the file, the file over the default. Flags may be written',
    'with dashes (`--max-batch-size`). An unknown flag, variable or key stops the start and names the nearest known one;',
    'all problems are listed at once. Paths in a file are relative to that file. Sizes are bytes, or text such as',
    '`64mb` and `1gib`, in powers of 1024. An embedder gives the camelCase key in `openRuntime({ ... })` (runtime),',
    '`createServer(runtime, { ... })` (server). Keys within `traffic` are the same everywhere.',
    '',
    'Models are `--model PATH` (repeatable) with `--name NAME` once for each or not at all; in the environment both are',
    'comma lists; in a file `model`/`name`, or the list `models`:',
    '',
    '```yaml',
    'models:',
    '  - path: models/ranker',
    '  - path: models/net.onnx',
    '    name: scorer',
    'thread: 4',
    'max_queue_bytes: 256mb',
    'log_level: warn',
    '```',
  ];
  for (const group of settingGroups) {
    parts.push(
      '',
      `## ${group}`,
      '',
      '| key | embedded | takes | default | meaning |',
      '|---|---|---|---|---|',
    );
    for (const { section, key, outside, schema } of settings.filter(
      (setting) => setting.schema.group === group,
    )) {
      const inside = section === 'log' ? '' : `${section}: \`${key}\``;
      const meaning =
        schema.variable === undefined
          ? schema.description
          : `${schema.description} The variable \`${schema.variable}\` gives it too.`;
      parts.push(row([`\`${outside}\``, inside, takesText(schema), defaultTextOf(schema) ?? '', meaning]));
    }
    if (group === 'Traffic') parts.push(...trafficSection());
  }
  return `${parts.join('\n')}\n`;
}

/** The keys below each public name of `traffic`. */
function trafficSection(): string[] {
  return [
    '',
    '`traffic` has no flag and no variable: it stands in the file, or in the options of an embedder with the same keys.',
    '[traffic.md](traffic.md) tells what they do.',
    ...trafficSettingTables.flatMap(({ path, required, keys }) => [
      '',
      `\`traffic.${path}\`:`,
      '',
      '| key | takes | when absent | meaning |',
      '|---|---|---|---|',
      ...keys.map(({ outside, schema }) => {
        const notes = schema as Setting['schema'];
        const byDefault = defaultTextOf(notes) ?? (required.includes(outside) ? 'refused' : '');
        return row([`\`${outside}\``, expectationOf(schema), byDefault, notes.description]);
      }),
    ]),
  ];
}

/** The page `docs/model-json.md`. */
export function modelJsonPage(): string {
  const parts = [
    '# model.json',
    '',
    'This page is printed from `src/config/model-settings.ts`; a test fails when it is stale.',
    '',
    'A file `model.json` beside a model (beside `model.onnx`, or beside the version directories) holds settings of that',
    "model alone. All keys are optional; an absent one means the server's setting of the same name. Where Triton's",
    '`config.pbtxt` or a Paddle Serving `serving_server_conf.prototxt` lies there too, `model.json` wins key by key.',
    '',
    'A `model.json` in a version directory holds settings of that version, and wins key by key over the one beside: so a publisher',
    'changes model and settings in one step. What is of the model with all its versions (`name`, `version_policy`, `labels`,',
    '`reloadable_meta`, `reloadable_type`) is ignored there, and the log says so.',
    '',
    '| key | takes | when absent | meaning |',
    '|---|---|---|---|',
  ];
  for (const { outside, schema } of modelSettingKeys) {
    const notes = schema as { defaultText?: string; description?: string };
    parts.push(
      row([
        `\`${outside}\``,
        expectationOf(schema),
        notes.defaultText ?? "the server's",
        notes.description ?? '',
      ]),
    );
  }
  parts.push(
    '',
    '`padding` maps the public name of an input to `{ "axes": [...], "value": ... }`:',
    '',
    '```json',
    '{',
    '  "max_batch_size": 32,',
    '  "padding": { "ids": { "axes": [1], "value": 0 }, "mask": { "axes": [1], "value": 0 } },',
    '  "outputs": { "score": "sigmoid_0.tmp_0" }',
    '}',
    '```',
    '',
    ...embeddingSection(),
  );
  return `${parts.join('\n')}\n`;
}

/** The table of options in `docs/monitor.md`. */
export function monitorOptionsTable(): string {
  const rows = monitorSettings.map(({ outside, isRequired, schema }) =>
    row([
      `\`${outside}\``,
      schema.bytes ? 'bytes, or text like `64mb`' : expectationOf(schema as TSchema),
      schema.defaultText ?? (isRequired ? 'required' : String(schema.default ?? '')),
      schema.description,
    ]),
  );
  return ['| option | takes | default | meaning |', '|---|---|---|---|', ...rows].join('\n');
}

function embeddingSection(): string[] {
  const required: readonly string[] = embeddingSettingsSchema.required;
  return [
    '## embeddings',
    '',
    'A list of stages. Each reads ids of a request, fetches their rows from a table and feeds them to one input of the',
    'network, which requests then no longer give. The same ids may feed several stages, and the same table too.',
    '[model-split.md](model-split.md) tells how `onnx-serving model split` makes them of an ordinary model.',
    '',
    '| key | takes | when absent | meaning |',
    '|---|---|---|---|',
    ...embeddingSettingKeys.map(({ outside, schema }) => {
      const notes = schema as Setting['schema'];
      const byDefault = defaultTextOf(notes) ?? (required.includes(outside) ? 'refused' : '');
      return row([`\`${outside}\``, expectationOf(schema), byDefault, notes.description]);
    }),
    '',
    '```json',
    '{',
    '  "embeddings": [',
    '    {',
    '      "table": "tables/features",',
    '      "ids": "sparse",',
    '      "datatype": "BYTES",',
    '      "slots": 26,',
    '      "hash": { "function": "python2", "modulus": 1000001, "column": 14 },',
    '      "target": "embedding"',
    '    },',
    '    { "table": "tables/items", "ids": "clicked", "lengths": "clicks", "combiner": "mean", "target": "history" }',
    '  ]',
    '}',
    '```',
  ];
}

function takesText(schema: Setting['schema']): string {
  if (schema.bytes) return `bytes, or text like \`64mb\``;
  return expectationOf(schema as TSchema);
}

function row(cells: readonly string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}

/** `monitor`: brings a model here whenever its publisher has put a new one on a remote store. */
import { type Command, Option } from 'commander';
import { readSurroundings, resolveLogConfig } from '../config/load.js';
import { type MonitorSetting, monitorSettings, resolveMonitorConfig } from '../config/monitor-settings.js';
import { monitorEnvPrefix } from '../config/sources.js';
import { Monitor } from '../monitor/monitor.js';
import { shownOptions } from '../monitor/shown-options.js';
import { openFetchMeter } from './fetch-meter.js';
import { openLog } from './log-output.js';
import { alignedText } from './table-text.js';

/**
 * Adds `monitor` to the program.
 *
 * @param end called with whether the model is in place, once the monitor was stopped
 */
export function registerMonitor(
  program: Command,
  end: (isInPlace: boolean) => void,
  stdout: { write(text: string): unknown } = process.stdout,
  stderr: NodeJS.WriteStream = process.stderr,
): void {
  const command = program
    .command('monitor')
    .description(
      'Fetch a model whenever its publisher has put a new one on a web server, FTP, HDFS or a disk.',
    )
    .allowExcessArguments(false)
    .addHelpText('after', notes);
  for (const setting of monitorSettings) command.addOption(optionOf(setting));
  command.addOption(
    new Option('--once', 'look once and end: exit code 0 when the model is in place, else 1').helpGroup(
      'Behaviour:',
    ),
  );
  command.addOption(
    new Option(
      '--log_format <format>',
      'how log lines are written (default: pretty on a terminal, else json)',
    )
      .choices(['pretty', 'json'])
      .helpGroup('Behaviour:'),
  );
  command.action(async (flags: Readonly<Record<string, unknown>>) => {
    end(await runMonitor(flags, stdout, stderr));
  });
}

async function runMonitor(
  flags: Readonly<Record<string, unknown>>,
  stdout: { write(text: string): unknown },
  stderr: NodeJS.WriteStream,
): Promise<boolean> {
  const surroundings = readSurroundings();
  const config = resolveMonitorConfig(monitorOptionsOf(flags, surroundings.env));
  stdout.write(`${alignedText(shownOptions(config))}\n`);
  const format = flags.log_format as 'pretty' | 'json' | undefined;
  const log = openLog(
    resolveLogConfig({ level: config.debug ? 'debug' : 'info', format }, surroundings),
    stderr,
  );
  const meter = openFetchMeter(stderr);
  const monitor = new Monitor(config, { logger: log.logger, ...(meter ? { onProgress: meter } : {}) });
  const stop = new AbortController();
  const onSignal = (): void => stop.abort();
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  // The pauses of a monitor do not keep a process alive: in a server they must not.
  const hold = setInterval(() => undefined, 2 ** 31 - 1);
  try {
    if (flags.once === true) {
      const outcome = await monitor.look(stop.signal);
      return outcome === 'installed' || outcome === 'unchanged';
    }
    await monitor.run(stop.signal);
    return true;
  } finally {
    clearInterval(hold);
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
    log.close();
  }
}

/** The options of a monitor from flags, and from the environment where there is no flag. */
export function monitorOptionsOf(
  flags: Readonly<Record<string, unknown>>,
  env: Readonly<Record<string, string | undefined>>,
): Record<string, unknown> {
  const options: Record<string, unknown> = {};
  for (const setting of monitorSettings) {
    const variable = env[monitorEnvPrefix + setting.outside.toUpperCase()];
    const given = flags[setting.outside] ?? (variable === '' ? undefined : variable);
    if (given !== undefined) options[setting.key] = typedValue(setting, given);
  }
  return options;
}

/** A text that does not fit stays text and becomes a problem. */
function typedValue({ schema }: MonitorSetting, given: unknown): unknown {
  if (typeof given !== 'string') return given;
  switch (schema.type) {
    case 'integer':
    case 'number':
      return !schema.bytes && /^\d+(\.\d+)?$/.test(given) ? Number(given) : given;
    case 'boolean':
      return given === 'true' ? true : given === 'false' ? false : given;
    default:
      return given;
  }
}

function optionOf({ outside, isRequired, schema }: MonitorSetting): Option {
  const shownDefault = schema.defaultText ?? String(schema.default ?? '');
  const end = isRequired ? ' (required)' : shownDefault === '' ? '' : ` (default: ${shownDefault})`;
  const value =
    schema.type === 'boolean'
      ? '[true|false]'
      : schema.enum
        ? `<${schema.enum.join('|')}>`
        : valueText(schema);
  return new Option(`--${outside} ${value}`, schema.description + end).helpGroup(`${schema.group}:`);
}

function valueText(schema: MonitorSetting['schema']): string {
  if (schema.bytes) return '<size>';
  if (schema.type === 'number') return '<seconds>';
  return schema.type === 'integer' ? '<n>' : schema.path ? '<directory>' : '<text>';
}

const notes = `
Settings
  Every option is also an environment variable, ONNX_SERVING_MONITOR_ and the name in capitals, which keeps passwords
  out of the list of processes: ONNX_SERVING_MONITOR_FTP_PASSWORD. A flag wins.

Examples
  onnx-serving monitor --general_host http://models:8000 --remote_path /ctr --remote_model_name model.tar.gz \\
    --remote_donefile_name done --local_path /srv/models --local_model_name ctr
  onnx-serving serve --model /srv/models/ctr
`;

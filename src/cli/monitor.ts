/** `monitor`: brings a model here whenever its publisher has put a new one on a remote store. */
import { type Command, Option } from 'commander';
import { readSurroundings, resolveLogConfig } from '../config/load.js';
import { monitorSettings, resolveMonitorConfig } from '../config/monitor-settings.js';
import { monitorEnvPrefix } from '../config/sources.js';
import { Monitor } from '../monitor/monitor.js';
import { shownOptions } from '../monitor/shown-options.js';
import { openFetchMeter } from './fetch-meter.js';
import { openLog } from './log-output.js';
import { givenOptions, logFormatOption, settingOption } from './setting-options.js';
import { alignedText } from './table-text.js';
import { untilSignal } from './until-signal.js';

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
  for (const setting of monitorSettings) command.addOption(settingOption(setting, '[true|false]'));
  command.addOption(
    new Option('--once', 'look once and end: exit code 0 when the model is in place, else 1').helpGroup(
      'Behaviour:',
    ),
  );
  command.addOption(logFormatOption());
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
  const format = flags.log_format as 'pretty' | 'json' | undefined;
  const log = openLog(
    resolveLogConfig({ level: config.debug ? 'debug' : 'info', format }, surroundings),
    stderr,
  );
  const meter = openFetchMeter(stderr);
  // Who asks for one look is told how it ended.
  const shown = { ...config, debug: config.debug || flags.once === true };
  try {
    // It refuses what the options alone do not show to be wrong, such as an address that is none.
    const monitor = new Monitor(shown, { logger: log.logger, ...(meter ? { onProgress: meter } : {}) });
    stdout.write(`${alignedText(shownOptions(config))}\n`);
    return await untilSignal(async (signal) => {
      if (flags.once === true) return ['installed', 'unchanged'].includes(await monitor.look(signal));
      await monitor.run(signal);
      return true;
    });
  } finally {
    log.close();
  }
}

/** The options of a monitor from flags, and from the environment where there is no flag. */
export function monitorOptionsOf(
  flags: Readonly<Record<string, unknown>>,
  env: Readonly<Record<string, string | undefined>>,
): Record<string, unknown> {
  return givenOptions(monitorSettings, flags, env, monitorEnvPrefix);
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

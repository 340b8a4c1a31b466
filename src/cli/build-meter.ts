/** Progress of a build for people: a bar on a terminal, now and then a line elsewhere. */
import cliProgress from 'cli-progress';
import type { BuildProgress } from '../sparse/builder.js';
import { durationText } from './table-text.js';

/** Something that shows progress until it is closed. */
export interface BuildMeter {
  close(): void;
}

const barIntervalMs = 250;
const lineIntervalMs = 10_000;
/** Steps of the bar. */
const total = 1000;

/** Shows how far a build is, on standard error as a rule. */
export function openBuildMeter(progress: () => BuildProgress, stream: NodeJS.WriteStream): BuildMeter {
  const startedAt = performance.now();
  const view = stream.isTTY ? barView(stream) : lineView(stream);
  const timer = setInterval(
    () => view.show(describeProgress(progress(), performance.now() - startedAt)),
    stream.isTTY ? barIntervalMs : lineIntervalMs,
  ).unref();
  let isClosed = false;
  return {
    close() {
      clearInterval(timer);
      if (!isClosed) view.close();
      isClosed = true;
    },
  };
}

/** Progress as it is shown. */
export interface DescribedProgress {
  /** 0 to 1. */
  readonly share: number;
  readonly phase: string;
  /** Rows read, and how fast. */
  readonly rows: string;
  /** What is left, as far as one can tell. */
  readonly left: string;
}

/**
 * Reading is counted as the first half of a build and writing as the second, which is about right.
 *
 * @param elapsedMs since the start of the build
 */
export function describeProgress(progress: BuildProgress, elapsedMs: number): DescribedProgress {
  const { phase, rowsRead, bytesRead, bytesTotal, partitionsDone, partitionsTotal } = progress;
  const isReading = phase === 'reading';
  const half = isReading
    ? bytesRead / Math.max(bytesTotal, 1)
    : partitionsDone / Math.max(partitionsTotal, 1);
  const share = phase === 'done' ? 1 : (isReading ? 0 : 0.5) + Math.min(half, 1) / 2;
  const perSecond = Math.round(rowsRead / Math.max(elapsedMs / 1000, 0.001));
  return {
    share,
    phase: phase === 'done' ? 'finishing' : phase,
    rows: isReading ? `${rowsRead} rows, ${perSecond} rows/s` : `${rowsRead} rows`,
    left: share > 0 ? `${durationText((elapsedMs / share) * (1 - share))} left` : 'time left unknown',
  };
}

interface View {
  show(progress: DescribedProgress): void;
  close(): void;
}

function barView(stream: NodeJS.WriteStream): View {
  const bar = new cliProgress.SingleBar({
    format: '{phase} |{bar}| {percentage}%, {rows}, {left}',
    stream,
    clearOnComplete: true,
    hideCursor: true,
  });
  let isStarted = false;
  return {
    show({ share, ...texts }) {
      const done = Math.floor(share * total);
      if (isStarted) bar.update(done, texts);
      else bar.start(total, done, texts);
      isStarted = true;
    },
    close() {
      if (isStarted) bar.stop();
    },
  };
}

function lineView(stream: NodeJS.WriteStream): View {
  return {
    show({ phase, share, rows, left }) {
      stream.write(`${phase}: ${Math.floor(share * 100)} %, ${rows}, ${left}\n`);
    },
    close() {},
  };
}

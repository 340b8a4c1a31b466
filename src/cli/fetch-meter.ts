/** Progress of a fetch for people who look at a terminal; elsewhere the log says enough. */
import cliProgress from 'cli-progress';
import type { FetchProgress } from '../remote/remote-store.js';

/** Something that shows progress: undefined takes it away. */
export type FetchMeter = (progress: FetchProgress | undefined) => void;

/** A meter on a terminal; undefined where the stream is none. */
export function openFetchMeter(stream: NodeJS.WriteStream, verb = 'fetching'): FetchMeter | undefined {
  if (!stream.isTTY) return undefined;
  let bar: cliProgress.SingleBar | undefined;
  return (progress) => {
    if (!progress) {
      bar?.stop();
      bar = undefined;
      return;
    }
    const { bytes, files, totalBytes } = progress;
    const total = totalBytes ?? 0;
    const texts = {
      size: sizeText(bytes),
      of: totalBytes === undefined ? '' : ` of ${sizeText(totalBytes)}`,
    };
    const payload = { ...texts, files: files > 1 ? `, ${files} files` : '' };
    if (bar) {
      // Where several fetches are shown as one, the total grows.
      if (total > 0) bar.setTotal(total);
      bar.update(bytes, payload);
    } else {
      // Without a total there is no bar to draw.
      const format = `${verb} ${total > 0 ? '|{bar}| {percentage}%, ' : ''}{size}{of}{files}`;
      bar = new cliProgress.SingleBar({ format, stream, clearOnComplete: true, hideCursor: true });
      bar.start(total, bytes, payload);
    }
  };
}

/** A number of bytes for people: "12.3 MB". */
export function sizeText(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = Math.min(Math.floor(Math.log10(Math.max(bytes, 1)) / 3), units.length - 1);
  return `${(bytes / 1000 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`;
}

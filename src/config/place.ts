import { resolve } from 'node:path';

/** Whether a place is an address, such as `https://host/file`, and no path. */
export function isAddress(place: string): boolean {
  return /^[a-z][a-z\d+.-]+:\/\//i.test(place);
}

/** A path relative to a directory; an address stays what it is. */
export function placeIn(base: string, place: string): string {
  return isAddress(place) ? place : resolve(base, place);
}

/** A file that says that what lies beside it is whole, as Hadoop's jobs write it. */
export const completeMarker = '_SUCCESS';

/** The directory beside a model that holds the sample of its traffic. */
export const sampleDirectoryName = '.warmup';

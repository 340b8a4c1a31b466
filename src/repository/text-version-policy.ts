/** Versions and version policies in text protobuf, which TF Serving and Triton write alike. */
import { lastValue } from './text-fields.js';
import { lastNumber, type TextMessage, type TextValue } from './text-proto.js';
import { type VersionPolicy, versionProblem } from './version-policy.js';

/** A version policy; undefined where it says nothing or what it says is a problem. */
export function readVersionPolicy(
  policy: TextMessage,
  line: number,
  file: string,
  problems: string[],
): VersionPolicy | undefined {
  const kinds = ['latest', 'all', 'specific'].filter((kind) => policy.has(kind));
  if (kinds.length > 1) {
    problems.push(
      `${file}:${line}: a version policy is one of latest, all and specific, got ${kinds.join(' and ')}`,
    );
    return undefined;
  }
  const value = lastValue(policy, kinds[0] ?? '');
  const body = value?.kind === 'message' ? value.value : new Map<string, readonly TextValue[]>();
  switch (kinds[0]) {
    case 'all':
      return { kind: 'all' };
    case 'latest': {
      const count = lastNumber(body, 'num_versions') ?? 1;
      if (Number.isSafeInteger(count) && count >= 1) return { kind: 'latest', count };
      problems.push(
        `${file}:${lastValue(body, 'num_versions')?.line ?? line}: num_versions: expected an integer of at least 1, got ${count}`,
      );
      return undefined;
    }
    case 'specific': {
      const versions = (body.get('versions') ?? []).map((item) => readVersion(item, file, problems));
      if (versions.length === 0) problems.push(`${file}:${value?.line ?? line}: specific names no versions`);
      return { kind: 'specific', versions };
    }
    default:
      return undefined;
  }
}

/** A version; what is wrong with it goes to `problems`. */
export function readVersion(value: TextValue, file: string, problems: string[]): number {
  const version = value.kind === 'number' ? value.value : Number.NaN;
  const problem = versionProblem(version);
  if (problem !== undefined) problems.push(`${file}:${value.line}: ${problem}`);
  return Number(version);
}

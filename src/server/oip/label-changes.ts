import { messageOf, ServingError } from '../../errors.js';

/**
 * The body of a change of labels: versions by label, `null` for a label to be removed.
 *
 * @throws SRV_BAD_JSON for a body that is no JSON, SRV_BAD_REQUEST for one that is something else
 */
export function readLabelChanges(body: unknown): Readonly<Record<string, number | null>> {
  let value: unknown;
  try {
    value = JSON.parse(body instanceof Buffer ? body.toString() : '');
  } catch (cause) {
    throw new ServingError('SRV_BAD_JSON', `labels: the body is not JSON: ${messageOf(cause)}`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ServingError('SRV_BAD_REQUEST', 'labels: expected an object such as {"stable": 3}');
  }
  for (const [label, version] of Object.entries(value)) {
    if (version === null || (Number.isSafeInteger(version) && version >= 0)) continue;
    throw new ServingError(
      'SRV_BAD_REQUEST',
      `labels: "${label}": expected a version, an integer of at least 0, or null, got ${JSON.stringify(version)}`,
    );
  }
  return value as Record<string, number | null>;
}

import { Histogram, latencyBounds } from './histogram.js';
import type { ModelStats, RequestStats } from './model-stats.js';

/**
 * What is counted of the requests of one variant, version by version.
 *
 * It belongs to the variant and knows versions by their statistics: what was counted is gone with either of them, and
 * there are never more label values than variants that are configured.
 */
export class VariantStats {
  readonly #byVersion = new WeakMap<ModelStats, RequestStats>();

  /** Where requests to a version are counted. */
  of(version: ModelStats): RequestStats {
    let counted = this.#byVersion.get(version);
    if (!counted) {
      counted = {
        stages: {
          decode: new Histogram(latencyBounds),
          queue: new Histogram(latencyBounds),
          encode: new Histogram(latencyBounds),
          total: new Histogram(latencyBounds),
        },
        requests: new Map(),
      };
      this.#byVersion.set(version, counted);
    }
    return counted;
  }

  /** What was counted of a version; undefined where it got no request. */
  find(version: ModelStats): RequestStats | undefined {
    return this.#byVersion.get(version);
  }
}

import { type MonitorConfig, monitorSettings } from '../config/monitor-settings.js';
import { mask, maskedUrl } from '../remote/masked-url.js';

/** The options of a monitor as they may be shown: names outside and texts, secrets masked. */
export function shownOptions(config: MonitorConfig): readonly (readonly [name: string, value: string])[] {
  return monitorSettings.map(({ key, outside, schema }) => {
    const value = config[key];
    if (value === undefined || value === '') return [outside, schema.defaultText ?? ''];
    if (schema.secret) return [outside, mask];
    const isAddress = schema.address && /:\/\/|@/.test(String(value));
    return [outside, isAddress ? maskedUrl(String(value)) : String(value)];
  });
}

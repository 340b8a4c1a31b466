/** Labels: names such as `stable` that stand for a version of a model. */
import Type from 'typebox';

/** Schema of a version's number. Larger ones would lose digits. */
export const versionSchema: Type.TInteger = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });

/** Why a text cannot be a label; undefined where it can. A number would be taken for a version. */
export function labelProblem(label: string): string | undefined {
  if (label === '') return 'a label is empty';
  if (label.length > 255) return 'a label has more than 255 characters';
  if (/^\d+$/.test(label)) return `the label "${label}" is a number, which means a version`;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  if (/[/\\\x00-\x1f]/.test(label)) return `the label "${label}" has a slash or a control character`;
  return undefined;
}

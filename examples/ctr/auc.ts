/**
 * The area under the ROC curve: how often a row with a click scores above one without; ties count half.
 *
 * @returns 0 to 1; NaN when all labels are alike
 */
export function auc(scores: ArrayLike<number>, labels: ArrayLike<number>): number {
  const order = Uint32Array.from({ length: scores.length }, (_, row) => row);
  order.sort((a, b) => scores[a]! - scores[b]!);
  let clicks = 0;
  let rankSum = 0;
  for (let start = 0; start < order.length; ) {
    let end = start + 1;
    while (end < order.length && scores[order[end]!] === scores[order[start]!]) end += 1;
    for (let at = start; at < end; at++) {
      if (labels[order[at]!] !== 1) continue;
      clicks += 1;
      rankSum += (start + end + 1) / 2;
    }
    start = end;
  }
  return (rankSum - (clicks * (clicks + 1)) / 2) / (clicks * (order.length - clicks));
}

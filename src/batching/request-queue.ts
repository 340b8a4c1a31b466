import type { Job } from './job.js';

/** How many milliseconds of waiting one level of priority is worth; this is what ages a job. */
export const agingMsPerPriority = 1000;

/** The queue's order of a job: its arrival, moved back by its priority. 1 is the most urgent. */
export function orderOf(enqueuedAt: number, priority: number): number {
  return enqueuedAt + (priority - 1) * agingMsPerPriority;
}

/** The queue's order of a job that has waited for too long: behind all that have not, which it keeps among its like. */
export function delayedOrder(order: number): number {
  return order + 1e13;
}

/**
 * Jobs of one version by priority and age: a binary heap on `order`, first come first served within a level.
 *
 * Jobs that are settled while they wait (cancelled, expired) are counted out at once and dropped when they
 * surface.
 */
export class RequestQueue {
  #heap: { readonly job: Job; readonly arrival: number }[] = [];
  #arrivals = 0;
  #size = 0;
  #rows = 0;

  /** Jobs that wait. */
  get size(): number {
    return this.#size;
  }

  /** Rows that wait. */
  get rows(): number {
    return this.#rows;
  }

  push(job: Job): void {
    job.isQueued = true;
    this.#size += 1;
    this.#rows += job.rows;
    const heap = this.#heap;
    heap.push({ job, arrival: this.#arrivals++ });
    let at = heap.length - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#isBefore(at, parent)) break;
      this.#swap(at, parent);
      at = parent;
    }
  }

  /** The job whose turn it is, still waiting. */
  peek(): Job | undefined {
    while (this.#heap.length > 0 && this.#heap[0]!.job.isSettled) this.#removeFirst();
    return this.#heap[0]?.job;
  }

  /** Takes the job whose turn it is. */
  pop(): Job | undefined {
    const job = this.peek();
    if (!job) return undefined;
    this.#removeFirst();
    job.isQueued = false;
    this.#size -= 1;
    this.#rows -= job.rows;
    return job;
  }

  /** Counts a settled job out, if it still waits. */
  forget(job: Job): void {
    if (!job.isQueued) return;
    job.isQueued = false;
    this.#size -= 1;
    this.#rows -= job.rows;
    if (this.#heap.length > 64 && this.#heap.length > 2 * this.#size) this.#compact();
  }

  /** The waiting jobs, in no particular order. */
  *waiting(): Generator<Job> {
    for (const { job } of this.#heap) if (!job.isSettled) yield job;
  }

  /** How many jobs of this priority wait. */
  sizeOf(priority: number): number {
    let size = 0;
    for (const job of this.waiting()) if (job.priority === priority) size += 1;
    return size;
  }

  #compact(): void {
    const alive = this.#heap.filter(({ job }) => !job.isSettled);
    // A sorted array is a heap.
    alive.sort((a, b) => a.job.order - b.job.order || a.arrival - b.arrival);
    this.#heap = alive;
  }

  #removeFirst(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    heap[0] = last;
    let at = 0;
    for (;;) {
      let first = at;
      const left = 2 * at + 1;
      if (left < heap.length && this.#isBefore(left, first)) first = left;
      if (left + 1 < heap.length && this.#isBefore(left + 1, first)) first = left + 1;
      if (first === at) return;
      this.#swap(at, first);
      at = first;
    }
  }

  #isBefore(a: number, b: number): boolean {
    const x = this.#heap[a]!;
    const y = this.#heap[b]!;
    return x.job.order < y.job.order || (x.job.order === y.job.order && x.arrival < y.arrival);
  }

  #swap(a: number, b: number): void {
    const x = this.#heap[a]!;
    this.#heap[a] = this.#heap[b]!;
    this.#heap[b] = x;
  }
}

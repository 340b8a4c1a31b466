import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Slot, SlotAllocator } from '../../src/instance/slab.js';
import { slabStats, viewSlab } from '../../src/native/binding.js';

const MiB = 1024 * 1024;

function allocator(t: { after(fn: () => void): void }, maxBytes: number): SlotAllocator {
  const slots = new SlotAllocator({ maxBytes });
  t.after(() => slots.close());
  return slots;
}

test('a slot is at least as large as asked for, aligned, and lies within its slab', (t) => {
  const slots = allocator(t, 64 * MiB);
  for (const bytes of [0, 1, 64, 4096, 4097, 100_000, MiB]) {
    const slot = slots.take(bytes)!;
    assert.ok(slot.bytes >= bytes);
    assert.equal(slot.offset % 64, 0);
    assert.ok(slot.offset + slot.bytes <= slot.buffer.byteLength);
    assert.equal(slot.buffer, viewSlab(slot.slab));
  }
});

test('slots in use do not overlap', (t) => {
  const slots = allocator(t, 64 * MiB);
  const taken = [5000, 100, 70_000, 4096, 9000, 33].map((bytes) => slots.take(bytes)!);
  taken.forEach((slot, index) => {
    new Uint8Array(slot.buffer, slot.offset, slot.bytes).fill(index + 1);
  });
  taken.forEach((slot, index) => {
    assert.ok(new Uint8Array(slot.buffer, slot.offset, slot.bytes).every((byte) => byte === index + 1));
  });
});

test('a slot that was given back is taken again by the next batch of its size', (t) => {
  const slots = allocator(t, 64 * MiB);
  const first = slots.take(10_000)!;
  slots.give(first);
  assert.equal(slots.take(9_000), first);
  const bytes = slots.bytes;
  for (let i = 0; i < 1000; i++) slots.give(slots.take(10_000)!);
  assert.equal(slots.bytes, bytes);
});

test('a slot that alone is over the bound is refused with the bound named', (t) => {
  const slots = allocator(t, MiB);
  assert.throws(() => slots.take(MiB + 1), {
    code: 'SRV_OUT_OF_MEMORY',
    message: /a batch needs 2097152 bytes of slab memory; max_slab_bytes is 1048576/,
  });
  assert.equal(slots.bytes, 0);
});

test('when all memory is in use a slot has to wait, until one of its size comes back', (t) => {
  const slots = allocator(t, 4 * MiB);
  const taken = Array.from({ length: 4 }, () => slots.take(MiB)!);
  assert.ok(taken.every(Boolean));
  assert.equal(slots.take(MiB), undefined);
  assert.ok(slots.bytes <= 4 * MiB);
  slots.give(taken[2]!);
  assert.equal(slots.take(MiB), taken[2]);
});

test('slabs that stand empty make room for a slot of another size', (t) => {
  const slots = allocator(t, 4 * MiB);
  const small = Array.from({ length: 16 }, () => slots.take(MiB / 4)!);
  assert.equal(slots.take(4 * MiB), undefined);
  for (const slot of small) slots.give(slot);
  const large = slots.take(4 * MiB);
  assert.ok(large);
  assert.equal(slots.bytes, 4 * MiB);
  slots.give(large);
  assert.ok(slots.take(MiB / 4));
});

test('a slab of which one slot is in use is not released', (t) => {
  const slots = allocator(t, 4 * MiB);
  const kept = slots.take(MiB)!;
  const others = [slots.take(MiB)!, slots.take(MiB)!];
  new Uint8Array(kept.buffer, kept.offset, kept.bytes).fill(7);
  for (const slot of others) slots.give(slot);
  assert.equal(slots.take(4 * MiB), undefined);
  assert.ok(new Uint8Array(kept.buffer, kept.offset, kept.bytes).every((byte) => byte === 7));
});

test('many sizes in turn stay within the bound and find their way', (t) => {
  const slots = allocator(t, 8 * MiB);
  const held: Slot[] = [];
  let seed = 7;
  for (let i = 0; i < 5000; i++) {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    if (held.length > 12 || (seed & 1) === 0) {
      const slot = held.splice(seed % Math.max(1, held.length), 1)[0];
      if (slot) slots.give(slot);
    } else {
      const slot = slots.take(1 << (10 + (seed % 11)));
      if (slot) held.push(slot);
    }
    assert.ok(slots.bytes <= 8 * MiB);
  }
  for (const slot of held) slots.give(slot);
  assert.ok(slots.take(8 * MiB), 'once all is given back, the largest slot fits');
});

test('closing releases every slab; a slot that is still held stays readable', () => {
  const before = slabStats().slabs;
  const slots = new SlotAllocator({ maxBytes: 64 * MiB });
  const slot = slots.take(1000)!;
  new Uint8Array(slot.buffer, slot.offset, 4).set([1, 2, 3, 4]);
  slots.close();
  assert.equal(slots.bytes, 0);
  assert.throws(() => viewSlab(slot.slab), { code: 'SRV_INTERNAL' });
  assert.deepEqual([...new Uint8Array(slot.buffer, slot.offset, 4)], [1, 2, 3, 4]);
  slots.give(slot);
  assert.ok(slabStats().slabs <= before + 1);
});

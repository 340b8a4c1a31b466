import assert from 'node:assert/strict';
import { test } from 'node:test';
import { usableCpus } from '../../src/config/cpus.js';

const cpus = (parallelism: number, files: Record<string, string>): number =>
  usableCpus({ parallelism, readText: (file) => files[file] });

test('without a cgroup all schedulable CPUs are usable', () => {
  assert.equal(cpus(8, {}), 8);
});

test('a version 2 quota limits the CPUs, rounded down', () => {
  const files = { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': '250000 100000\n' };
  assert.equal(cpus(8, files), 2);
});

test('a version 2 quota of "max" is no limit', () => {
  assert.equal(cpus(8, { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': 'max 100000\n' }), 8);
});

test('the smallest quota of the cgroup and those above it counts', () => {
  const files = {
    '/proc/self/cgroup': '0::/kube/pod/box\n',
    '/sys/fs/cgroup/kube/pod/box/cpu.max': 'max 100000\n',
    '/sys/fs/cgroup/kube/pod/cpu.max': '300000 100000\n',
    '/sys/fs/cgroup/kube/cpu.max': '600000 100000\n',
  };
  assert.equal(cpus(16, files), 3);
});

test('a version 1 quota limits the CPUs, also where the path is that of the host', () => {
  const files = {
    '/proc/self/cgroup': '12:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n',
    '/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us': '400000\n',
    '/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us': '100000\n',
  };
  assert.equal(cpus(16, files), 4);
});

test('a version 1 quota of -1 is no limit', () => {
  const files = {
    '/proc/self/cgroup': '4:cpu:/\n',
    '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n',
    '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
  };
  assert.equal(cpus(4, files), 4);
});

test('a quota under one CPU still leaves one', () => {
  const files = { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': '20000 100000\n' };
  assert.equal(cpus(8, files), 1);
});

test('files that make no sense are no limit', () => {
  const files = { '/proc/self/cgroup': 'garbage\n0::/\n', '/sys/fs/cgroup/cpu.max': 'lots of them\n' };
  assert.equal(cpus(8, files), 8);
});

#pragma once

/** Tests by file; each ends the program when it fails. */
void testBucketPlacement();
void testByteScan();
void testCrashJournal();
void testDecimal();
void testFiles();
void testGather();
void testIdHash();
void testInferBody();
void testJsonTensor();
void testMappedFileGuard();
void testMutations();
void testOverlay();
void testRowEncoder();
void testSlab();
void testNpyRows();
void testSequenceFile();
void testTextRows();
void testTableBuild();
void testTableBuildThreads();
void testTableRace();
void testXxh64();

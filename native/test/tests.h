#pragma once

/** Tests by file; each ends the program when it fails. */
void testBucketPlacement();
void testByteScan();
void testCrashJournal();
void testDecimal();
void testFiles();
void testInferBody();
void testJsonTensor();
void testMappedFileGuard();
void testMutations();
void testRowEncoder();
void testSlab();
void testNpyRows();
void testSequenceFile();
void testTextRows();
void testTableBuild();
void testTableBuildThreads();
void testXxh64();

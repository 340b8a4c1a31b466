#pragma once

/** Tests by file; each ends the program when it fails. */
void testByteScan();
void testCrashJournal();
void testDecimal();
void testFiles();
void testInferBody();
void testJsonTensor();
void testMappedFileGuard();
void testMutations();
void testSlab();
void testXxh64();

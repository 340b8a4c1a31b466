#include <string>

#include "../file_content.h"
#include "../mapped_file.h"
#include "../xxh64.h"
#include "check.h"
#include "temporary_file.h"
#include "tests.h"

using namespace onnx_serving;

void testFiles() {
  const size_t bytes = (size_t{3} << 20) + 17;
  const TemporaryFile file(bytes);
  Xxh64 hash;
  const std::string content(bytes, 'x');
  hash.update(std::as_bytes(std::span(content)));
  CHECK(hashFile(file.path()).value() == hash.digest());
  CHECK(prefaultFile(file.path()).value() == bytes);

  {
    const auto mapped =
        MappedFile::open(file.path(), {.prefault = true, .hugePages = true, .copyOnWrite = true}).value();
    CHECK(mapped->bytes().size() == bytes && mapped->bytes()[bytes - 1] == std::byte{'x'});
    mapped->bytes()[0] = std::byte{'y'};
  }
  for (const Advice advice : {Advice::kNormal, Advice::kSequential, Advice::kRandom, Advice::kWillNeed}) {
    const auto mapped = MappedFile::open(file.path(), {.advice = advice}).value();
    CHECK(mapped->bytes()[0] == std::byte{'x'});
  }

  const TemporaryFile empty(0);
  CHECK(hashFile(empty.path()).value() == 0xEF46DB3751D8E999);
  CHECK(MappedFile::open(empty.path(), {}).value()->bytes().empty());

  for (const std::string path : {"/nowhere/at/all", "/tmp", "/dev/null"}) {
    CHECK(!hashFile(path).ok());
    auto mapped = MappedFile::open(path, {});
    CHECK(!mapped.ok() && mapped.status().message().find(path) != std::string::npos);
  }
}

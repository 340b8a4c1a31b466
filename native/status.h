#pragma once

#include <string>
#include <utility>
#include <variant>

namespace onnx_serving {

/** Codes of src/errors.ts that native code reports. */
namespace code {
inline constexpr const char* kBadInputFile = "SRV_BAD_INPUT_FILE";
inline constexpr const char* kBadJson = "SRV_BAD_JSON";
inline constexpr const char* kBadTensor = "SRV_BAD_TENSOR";
inline constexpr const char* kInternal = "SRV_INTERNAL";
inline constexpr const char* kIo = "SRV_IO";
inline constexpr const char* kOutOfMemory = "SRV_OUT_OF_MEMORY";
inline constexpr const char* kTableCorrupt = "SRV_TABLE_CORRUPT";
inline constexpr const char* kTableUnsupported = "SRV_TABLE_UNSUPPORTED";
inline constexpr const char* kTableMismatch = "SRV_TABLE_MISMATCH";
inline constexpr const char* kCancelled = "SRV_CANCELLED";
inline constexpr const char* kMissingKey = "SRV_MISSING_KEY";
inline constexpr const char* kBadBags = "SRV_BAD_BAGS";
}  // namespace code

/** Success, or one of our codes with a message for people. */
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(const char* code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == nullptr; }
  /** A member of namespace `code`; null on success. */
  const char* code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  const char* code_ = nullptr;
  std::string message_;
};

/** A value, or the Status that says why there is none. */
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : held_(std::in_place_index<0>, std::move(value)) {}
  Result(Status status) : held_(std::in_place_index<1>, std::move(status)) {}

  bool ok() const { return held_.index() == 0; }
  T& value() { return *std::get_if<0>(&held_); }
  const Status& status() const { return *std::get_if<1>(&held_); }

 private:
  std::variant<T, Status> held_;
};

/** SRV_IO: what was tried on which path, and the operating system's words for `error` (an errno). */
Status ioError(const char* action, const std::string& path, int error);

}  // namespace onnx_serving

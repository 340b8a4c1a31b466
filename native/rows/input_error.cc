#include "input_error.h"

namespace onnx_serving {

Status badInput(const std::string& path, uint64_t offset, const std::string& problem) {
  return Status(code::kBadInputFile, path + ", byte " + std::to_string(offset) + ": " + problem);
}

std::string excerpt(std::span<const uint8_t> text) {
  constexpr size_t kShown = 40;
  std::string shown = "\"";
  for (size_t i = 0; i < text.size() && i < kShown; ++i) {
    const uint8_t c = text[i];
    shown += c >= 0x20 && c < 0x7F ? static_cast<char>(c) : '?';
  }
  shown += text.size() > kShown ? "...\"" : "\"";
  return shown;
}

}  // namespace onnx_serving

// A client that costs as little as one can: requests are prepared before, replies are looked at only as far
// as their length needs, and some are always on their way.
//
//   redis_client PORT KEYS ROWS DIM
//
// Puts the rows into the server unless it holds them. Keys are the 8 bytes of the key, values the bytes of
// the row. Commands: `mget KEYS CONNECTIONS DEPTH SECONDS` with DEPTH requests on their way on each
// connection, and `check`.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "contestant.h"

using namespace onnx_serving::bench;

namespace {

class Connection {
 public:
  explicit Connection(uint16_t port) : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
      fail(std::string("redis does not answer: ") + std::strerror(errno));
    const int one = 1;
    setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  }
  ~Connection() { close(socket_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int socketNumber() const { return socket_; }

  void send(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0) fail(std::string("redis takes nothing: ") + std::strerror(errno));
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }

  /** Blocks until something comes. */
  size_t receive(char* to, size_t room) const {
    const ssize_t got = recv(socket_, to, room, 0);
    if (got <= 0) fail("redis ended the connection");
    return static_cast<size_t>(got);
  }

  void receiveAll(char* to, size_t bytes) const {
    for (size_t at = 0; at < bytes;) at += receive(to + at, bytes - at);
  }

 private:
  int socket_;
};

void appendBulk(std::string& to, const void* data, size_t bytes) {
  to += "$" + std::to_string(bytes) + "\r\n";
  to.append(static_cast<const char*>(data), bytes);
  to += "\r\n";
}

void load(uint16_t port, uint64_t rows, size_t dim) {
  const Connection connection(port);
  constexpr uint64_t kRowsARequest = 1000;
  std::vector<float> row(dim);
  std::string request;
  for (uint64_t i = 0; i < rows;) {
    const uint64_t end = std::min(rows, i + kRowsARequest);
    request = "*" + std::to_string(1 + 2 * (end - i)) + "\r\n$4\r\nMSET\r\n";
    for (; i < end; ++i) {
      const uint64_t key = keyOf(i);
      fillRow(i, 0, row);
      appendBulk(request, &key, 8);
      appendBulk(request, row.data(), dim * 4);
    }
    connection.send(request);
    char ok[5];
    connection.receiveAll(ok, sizeof ok);
    if (std::memcmp(ok, "+OK\r\n", sizeof ok) != 0) fail("redis refuses MSET: is there memory enough?");
  }
}

/** One request for each run of `batch` keys. */
std::vector<std::string> requestsOf(const std::vector<uint64_t>& keys, size_t batch) {
  std::vector<std::string> requests(std::min<size_t>(keys.size() / batch, 20'000));
  for (size_t r = 0; r < requests.size(); ++r) {
    requests[r] = "*" + std::to_string(1 + batch) + "\r\n$4\r\nMGET\r\n";
    for (size_t k = 0; k < batch; ++k) appendBulk(requests[r], &keys[r * batch + k], 8);
  }
  return requests;
}

/** Bytes of a reply in which every key has its row. */
size_t replyBytes(size_t batch, size_t dim) {
  const size_t head = 3 + std::to_string(batch).size();
  const size_t bulk = 3 + std::to_string(dim * 4).size() + dim * 4 + 2;
  return head + batch * bulk;
}

std::string runRequests(uint16_t port, const std::vector<std::string>& requests, size_t batch, size_t dim,
                        size_t connectionCount, size_t depth, double forSeconds) {
  std::vector<std::unique_ptr<Connection>> connections;
  std::vector<size_t> owed(connectionCount, 0);
  const int poll = epoll_create1(0);
  size_t next = 0;
  const auto sendOne = [&](size_t c) {
    connections[c]->send(requests[next]);
    next = (next + 1) % requests.size();
  };
  for (size_t c = 0; c < connectionCount; ++c) {
    connections.push_back(std::make_unique<Connection>(port));
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = c;
    epoll_ctl(poll, EPOLL_CTL_ADD, connections[c]->socketNumber(), &event);
  }
  const size_t whole = replyBytes(batch, dim);
  std::vector<char> buffer(size_t{1} << 18);
  const double cpuBefore = cpuSeconds();
  const auto startedAt = Clock::now();
  for (size_t c = 0; c < connectionCount; ++c)
    for (size_t d = 0; d < depth; ++d) sendOne(c);
  uint64_t answered = 0;
  size_t onTheirWay = connectionCount * depth;
  bool isOver = false;
  while (onTheirWay > 0) {
    epoll_event events[64];
    const int ready = epoll_wait(poll, events, 64, -1);
    isOver = isOver || seconds(Clock::now() - startedAt) >= forSeconds;
    for (int e = 0; e < ready; ++e) {
      const size_t c = events[e].data.u64;
      owed[c] += connections[c]->receive(buffer.data(), buffer.size());
      // A reply of another length (an error, a missing key) would stop the count, and the run with it.
      for (; owed[c] >= whole; owed[c] -= whole) {
        ++answered;
        if (isOver)
          --onTheirWay;
        else
          sendOne(c);
      }
    }
  }
  const double took = seconds(Clock::now() - startedAt);
  const double cpu = cpuSeconds() - cpuBefore;
  close(poll);
  std::ostringstream answer;
  answer.precision(12);
  answer << "{\"keys\":" << answered * batch << ",\"seconds\":" << took << ",\"clientCpuSeconds\":" << cpu
         << "}";
  return answer.str();
}

std::string check(uint16_t port, const std::vector<uint64_t>& keys, size_t dim) {
  constexpr size_t kBatch = 100;
  const Connection connection(port);
  const std::vector<std::string> requests = requestsOf(keys, kBatch);
  const size_t count = std::min<size_t>(requests.size(), 1000);
  const size_t head = 3 + std::to_string(kBatch).size();
  const size_t bulkHead = 3 + std::to_string(dim * 4).size();
  std::vector<char> reply(replyBytes(kBatch, dim));
  std::vector<float> row(dim);
  size_t wrong = 0;
  for (size_t r = 0; r < count; ++r) {
    connection.send(requests[r]);
    connection.receiveAll(reply.data(), reply.size());
    for (size_t k = 0; k < kBatch; ++k) {
      fillRow(indexOf(keys[r * kBatch + k]), 0, row);
      const char* const value = &reply[head + k * (bulkHead + dim * 4 + 2) + bulkHead];
      if (std::memcmp(value, row.data(), dim * 4) != 0) ++wrong;
    }
  }
  return "{\"checked\":" + std::to_string(count * kBatch) + ",\"wrong\":" + std::to_string(wrong) + "}";
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 5) fail("usage: redis_client PORT KEYS ROWS DIM");
  const auto port = static_cast<uint16_t>(std::atoi(arguments[1]));
  const std::vector<uint64_t> keys = readKeys(arguments[2]);
  const uint64_t rows = std::strtoull(arguments[3], nullptr, 10);
  const size_t dim = std::strtoull(arguments[4], nullptr, 10);
  load(port, rows, dim);
  std::cout << "{\"ready\":true}" << std::endl;
  size_t preparedFor = 0;
  std::vector<std::string> requests;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string command;
    words >> command;
    if (command == "check") {
      std::cout << check(port, keys, dim) << std::endl;
      continue;
    }
    size_t batch = 0, connections = 0, depth = 0;
    double forSeconds = 0;
    words >> batch >> connections >> depth >> forSeconds;
    if (command != "mget" || !words || batch == 0) fail("bad command: " + line);
    if (batch != preparedFor) requests = requestsOf(keys, batch);
    preparedFor = batch;
    std::cout << runRequests(port, requests, batch, dim, connections, depth, forSeconds) << std::endl;
  }
  return 0;
}

// memory_server FILE PORT: answers every request with the octets of a file, which it has in memory, for scrapes.py: what is left of a
// scrape when the page costs nothing to make. nginx sends its file without copying it from memory.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

int main(int argc, char** argv) {
    if (argc != 3) return 2;
    std::string page;
    std::FILE* const file = std::fopen(argv[1], "rb");
    if (!file) return 2;
    char octets[16384];
    for (std::size_t n; (n = std::fread(octets, 1, sizeof octets, file)) != 0;) page.append(octets, n);
    std::fclose(file);
    const std::string answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " + std::to_string(page.size()) + "\r\n\r\n" + page;

    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(static_cast<std::uint16_t>(std::strtoul(argv[2], nullptr, 10)));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0 || listen(listener, 64) != 0) return 1;

    std::vector<pollfd> polled{{listener, POLLIN, 0}};
    std::vector<std::size_t> left{0};  // octets of the answer that are not sent yet
    for (;;) {
        if (poll(polled.data(), polled.size(), -1) < 0) return 1;
        for (std::size_t i = polled.size(); i-- != 1;) {
            pollfd& p = polled[i];
            bool ended = false;
            if ((p.revents & (POLLIN | POLLHUP | POLLERR)) != 0 && left[i] == 0) {
                ended = recv(p.fd, octets, sizeof octets, 0) <= 0;
                left[i] = answer.size();
            }
            if (!ended && left[i] != 0) {
                const auto n = send(p.fd, answer.data() + answer.size() - left[i], left[i], MSG_DONTWAIT | MSG_NOSIGNAL);
                if (n > 0) left[i] -= static_cast<std::size_t>(n);
                else ended = (p.revents & (POLLHUP | POLLERR)) != 0;
            }
            p.events = left[i] == 0 ? POLLIN : POLLOUT;
            if (!ended) continue;
            close(p.fd);
            polled.erase(polled.begin() + static_cast<std::ptrdiff_t>(i));
            left.erase(left.begin() + static_cast<std::ptrdiff_t>(i));
        }
        if ((polled[0].revents & POLLIN) == 0) continue;
        const int peer = accept(listener, nullptr, nullptr);
        if (peer < 0) continue;
        setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        polled.push_back({peer, POLLIN, 0});
        left.push_back(0);
    }
}

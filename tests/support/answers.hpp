// A strict parser of answers, for the tests of the server.
#pragma once
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

namespace test_client {

struct answer {
    int status = 0;
    std::string head, body;
    bool has(std::string_view line) const { return ("\r\n" + head).find("\r\n" + std::string(line) + "\r\n") != std::string::npos; }
    std::string field(std::string_view name) const {
        const std::string key = "\r\n" + std::string(name) + ": ";
        const std::size_t at = head.find(key);
        return at == std::string::npos ? "" : head.substr(at + key.size(), head.find("\r\n", at + 2) - at - key.size());
    }
};

/// Takes one answer off `text`. False when it is not whole (`ended`: nothing more will come).
inline bool take_answer(std::string& text, bool to_head, bool ended, answer& a) {
    const std::size_t end = text.find("\r\n\r\n");
    if (end == std::string::npos || text.compare(0, 9, "HTTP/1.1 ") != 0) return false;
    a.head = text.substr(0, end + 2);
    a.status = std::atoi(a.head.c_str() + 9);
    std::size_t at = end + 4;
    a.body.clear();
    const std::string length = a.field("Content-Length");
    if (to_head || a.status == 204) {
    } else if (!length.empty()) {
        const std::size_t n = static_cast<std::size_t>(std::atol(length.c_str()));
        if (text.size() - at < n) return false;
        a.body = text.substr(at, n);
        at += n;
    } else if (a.field("Transfer-Encoding") == "chunked") {
        for (std::size_t n = 1; n != 0;) {
            const std::size_t line = text.find("\r\n", at);
            if (line == std::string::npos) return false;
            char* stop = nullptr;
            n = std::strtoul(text.c_str() + at, &stop, 16);
            if (stop != text.c_str() + line || line == at) return false;
            at = line + 2;
            if (text.size() - at < n + 2 || text.compare(at + n, 2, "\r\n") != 0) return false;
            a.body += text.substr(at, n);
            at += n + 2;
        }
    } else {
        if (!ended) return false;
        a.body = text.substr(at);
        at = text.size();
    }
    text.erase(0, at);
    return true;
}
inline std::vector<answer> take_answers(std::string text, bool ended = false, std::string_view heads = "") {
    std::vector<answer> all;
    for (std::size_t i = 0;; ++i) {
        answer a;
        if (!take_answer(text, i < heads.size() && heads[i] == 'H', ended, a)) break;
        all.push_back(a);
    }
    if (!text.empty()) all.push_back({-1, "stray: " + text, {}});
    return all;
}

}  // namespace test_client

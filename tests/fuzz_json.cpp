// The JSON writer: any texts in any nesting are one document, read back by a strict reader as what was written.
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

namespace {

namespace detail = prometheus_async::detail;

void require(bool good) { if (!good) std::abort(); }

/// RFC 8259, strictly; what it reads is told again in one form.
struct json_reader {
    std::string_view left;
    std::string told;
    char take() {
        require(!left.empty());
        const char c = left[0];
        left.remove_prefix(1);
        return c;
    }
    void text() {
        require(take() == '"');
        told += 't';
        for (char c = take(); c != '"'; c = take()) {
            require(static_cast<unsigned char>(c) >= 0x20);
            if (c == '\\') {
                c = take();
                if (c == 'u') {
                    unsigned code = 0;
                    for (int i = 0; i != 4; ++i) {
                        const std::size_t digit = std::string_view("0123456789abcdef").find(take());
                        require(digit < 16);
                        code = code << 4 | static_cast<unsigned>(digit);
                    }
                    require(code < 0x80);  // the others are written as they are
                    c = static_cast<char>(code);
                } else require(c == '"' || c == '\\');
            }
            told += c;
        }
        told += '\0';
    }
    void value() {
        require(!left.empty());
        const char c = left[0];
        if (c == '"') return text();
        if (c == '[' || c == '{') {
            told += take();
            const char end = c == '[' ? ']' : '}';
            for (bool first = true; !left.empty() && left[0] != end; first = false) {
                if (!first) require(take() == ',');
                if (c == '{') text(), require(take() == ':');
                value();
            }
            told += take();
            return;
        }
        for (std::string_view word : {"true", "false"})
            if (left.starts_with(word)) return left.remove_prefix(word.size()), void(told += word);
        std::size_t n = 0;
        while (n != left.size() && left[n] >= '0' && left[n] <= '9') ++n;
        require(n != 0 && (n == 1 || left[0] != '0'));
        (told += 'n') += left.substr(0, n);
        left.remove_prefix(n);
    }
};

struct writer {
    const unsigned char* at;
    const unsigned char* end;
    detail::json_writer json{};
    std::string told{};
    unsigned octet() { return at != end ? *at++ : 0; }
    std::string text() {
        std::string made;
        for (unsigned n = octet() % 16; n != 0; --n) made += static_cast<char>(octet());
        bool changed = false;
        ((told += 't') += detail::sanitize_utf8(made, changed)) += '\0';
        return made;
    }
    void value(int depth) {
        const unsigned what = octet();
        if (depth < 20 && what % 8 < 3) {
            const bool object = what % 8 == 0;
            json.open(object ? '{' : '[');
            told += object ? '{' : '[';
            for (unsigned n = what >> 3 & 7; n != 0; --n) {
                if (object) json.key(text());
                value(depth + 1);
            }
            json.close(object ? '}' : ']');
            told += object ? '}' : ']';
        } else if (what % 8 == 3) {
            const bool truth = octet() & 1;
            json.truth(truth);
            told += truth ? "true" : "false";
        } else if (what % 8 == 4) {
            std::uint64_t number = 0;
            for (unsigned n = what >> 4; n != 0; --n) number = number << 8 | octet();
            json.number(number);
            (told += 'n') += std::to_string(number);
        } else json.text(text());
    }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    writer w{data, data + size};
    w.value(0);
    const std::string document = w.json.take();
    require(detail::valid_utf8(document));
    json_reader reader{document, {}};
    reader.value();
    require(reader.left.empty() && reader.told == w.told);
    return 0;
}

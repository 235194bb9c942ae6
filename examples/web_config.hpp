// The web configuration file of Prometheus' own programs and exporters (exporter-toolkit, --web.config.file) for
// prometheus_async.hpp: copy this file and tls_openssl.hpp beside it. Link with -lssl -lcrypto -lcrypt.
//
//     auto web = web_config::load("web.yml").value();
//     auto server = co_await prom::start_http_server(loop, {.port = 9464, .tls = web.tls(), .authorizer = web.authorizer()});
//
// The options of the toolkit's manual, and what is supported here. What is not supported is refused, with its line and name.
//
//   tls_server_config    cert_file, key_file, client_ca_file   supported; a relative path starts at the directory of the file
//                        client_auth_type                      NoClientCert, RequireAndVerifyClientCert; others are refused
//                        min_version                           TLS12 (the default), TLS13; others are refused
//                        max_version                           TLS13 (the default); others are refused
//                        prefer_server_cipher_suites           accepted, without effect, as in Go since 1.17
//                        cert, key, client_ca                  refused: name a file
//                        client_allowed_sans, cipher_suites, curve_preferences   refused
//   http_server_config   http2                                 accepted: the server has only HTTP/1.1 in any case
//                        headers: X-Content-Type-Options       nosniff is accepted: the server always sends it
//                        headers: all others                   refused
//   basic_auth_users                                           supported: bcrypt as $2a$, $2b$ or $2y$, with a cost up to 16
//   rate_limit                                                 refused: see server_limits
//
// The YAML that is supported: mappings by indentation; plain, 'single' and "double" quoted values on one line; comments.
// Lists, {flow}, anchors, tags, values of several lines and several documents are refused.
#ifndef PROMETHEUS_ASYNC_WEB_CONFIG_HPP
#define PROMETHEUS_ASYNC_WEB_CONFIG_HPP

#include "tls_openssl.hpp"

#if __has_include(<crypt.h>)
#include <crypt.h>
#define PROMETHEUS_ASYNC_WEB_CONFIG_CRYPT 1
#else
#define PROMETHEUS_ASYNC_WEB_CONFIG_CRYPT 0
#endif
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace web_config_detail {

namespace prom = prometheus_async;

/// What the file contains. A user's digest is that of the credentials that were last found correct.
struct user {
    std::string name, hash;
    bool known = false;
    unsigned char digest[32] = {};
};
struct settings {
    bool tls = false, verifies_clients = false;
    std::string certificate, key, client_ca;
    int min_version = TLS1_2_VERSION;
    std::vector<user> users;
};

// ---- the file ----

constexpr std::size_t longest_file = 1 << 20, longest_name = 128, longest_password = 511;
constexpr int highest_cost = 16;  // about 5 s

inline bool is_bcrypt(std::string_view hash) noexcept {
    if (hash.size() != 60 || hash.substr(0, 2) != "$2" || std::string_view("aby").find(hash[2]) == std::string_view::npos ||
        hash[3] != '$' || hash[6] != '$')
        return false;
    for (std::size_t i = 7; i != 60; ++i)
        if (!(hash[i] >= '.' && hash[i] <= '9') && !(hash[i] >= 'A' && hash[i] <= 'Z') && !(hash[i] >= 'a' && hash[i] <= 'z')) return false;
    return hash[4] >= '0' && hash[4] <= '9' && hash[5] >= '0' && hash[5] <= '9';
}
inline int cost_of(std::string_view hash) noexcept { return (hash[4] - '0') * 10 + (hash[5] - '0'); }

/// Reads a text as the subset of YAML above.
///
/// errors   invalid_option: "web.yml:3: why"
class reader {
public:
    reader(std::string_view text, const std::string& file) : text_(text), directory_(file.substr(0, file.rfind('/') + 1)),
        name_(file.substr(file.rfind('/') + 1).substr(0, 40)) {}

    prom::result<settings> read() {
        if (text_.substr(0, 3) == "\xEF\xBB\xBF") text_.remove_prefix(3);
        while (!text_.empty()) {
            const std::size_t end = text_.find('\n');
            std::string_view line = text_.substr(0, end);
            text_.remove_prefix(end == text_.npos ? text_.size() : end + 1);
            if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
            ++number_;
            if (!take_line(line)) return fault_;
        }
        if (opens_ ? !no(path_of(keys_.size()) + " has no value") : !whole()) return fault_;
        return std::move(made_);
    }

private:
    bool no(std::string_view why) {
        fault_ = prom::error(prom::errc::invalid_option, name_ + ":" + std::to_string(number_) + ": " + std::string(why));
        return false;
    }
    std::string path_of(std::size_t depth) const {
        std::string path;
        for (std::size_t i = 0; i != depth; ++i) path += (i ? "." : "") + keys_[i];
        return path.substr(0, 80);
    }
    static bool blank(std::string_view rest) noexcept {  // a comment, or nothing
        const std::size_t at = rest.find_first_not_of(' ');
        return at == rest.npos || (rest[at] == '#' && at != 0);
    }

    bool take_line(std::string_view line) {
        for (char c : line)
            if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f) return no("a control character");
        const std::size_t indent = line.find_first_not_of(' ');
        if (indent == line.npos || line[indent] == '#') return true;
        std::string_view rest = line.substr(indent);
        if (rest.find_first_not_of(" \t") == rest.npos) return true;
        if (rest[0] == '\t') return no("a tab in the indentation: YAML needs spaces");
        if (indent == 0 && rest.substr(0, 3) == "---" && blank(rest.substr(3)) && !begun_) return begun_ = true;
        if (indent == 0 && (rest.substr(0, 3) == "---" || rest.substr(0, 3) == "...")) return no("only one document is supported");
        begun_ = true;
        if (rest[0] == '-' && (rest.size() == 1 || rest[1] == ' ')) return no("a list: no supported option has one");

        std::string key, value;
        if (!take_scalar(rest, true, key)) return false;
        if (rest.empty() || rest[0] != ':' || (rest.size() > 1 && rest[1] != ' ')) return no("not a line of the form key: value");
        rest.remove_prefix(1);
        const bool has_value = !blank(rest);
        if (has_value) {
            rest.remove_prefix(rest.find_first_not_of(' '));
            if (!take_scalar(rest, false, value)) return false;
            if (!blank(rest)) return no("there is more text after the value of " + key.substr(0, 60));
        }
        return place(indent) && take(std::move(key), value, has_value);
    }

    /// Takes a key or a value from the front of `rest`.
    bool take_scalar(std::string_view& rest, bool is_key, std::string& into) {
        const char quote = rest[0];
        if (quote == '"' || quote == '\'') {
            rest.remove_prefix(1);
            for (;; rest.remove_prefix(1)) {
                if (rest.empty()) return no("a quote is not closed on its line");
                if (quote == '\'' && rest.substr(0, 2) == "''") rest.remove_prefix(1);
                else if (rest[0] == quote) break;
                else if (quote == '"' && rest[0] == '\\') {
                    rest.remove_prefix(1);
                    if (rest.empty() || (rest[0] != '"' && rest[0] != '\\')) return no("an escape that is not supported: only \\\" and \\\\ are");
                }
                into += rest[0];
            }
            rest.remove_prefix(1);
            while (is_key && !rest.empty() && rest[0] == ' ') rest.remove_prefix(1);
            return true;
        }
        if (std::string_view("&*!|>%@`{}[],?").find(quote) != std::string_view::npos)
            return no(std::string("YAML that is not supported: what begins with ") + quote);
        std::size_t end = 0;
        for (; end != rest.size(); ++end) {
            if (rest[end] == ':' && (end + 1 == rest.size() || rest[end + 1] == ' ')) {
                if (is_key) break;
                return no("a second key on one line: quote a value that has a colon and a space");
            }
            if (rest[end] == '\t') return no("a tab outside of quotes");
            if (rest[end] == '#' && end != 0 && rest[end - 1] == ' ') break;
        }
        std::string_view text = rest.substr(0, end);
        while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
        rest.remove_prefix(text.size());
        while (is_key && !rest.empty() && rest[0] == ' ') rest.remove_prefix(1);
        if (text == "~" || text == "null") return no("null is not a value");
        into = text;
        return true;
    }

    /// Finds the mapping that a line of this indentation belongs to.
    bool place(std::size_t indent) {
        if (indents_.empty()) indents_.push_back(indent);
        if (opens_) {
            if (indent <= indents_.back()) return no(path_of(keys_.size()) + " has no value");
            indents_.push_back(indent);
        } else {
            if (indent > indents_.back()) return no("indented under " + path_of(keys_.size()) + ", which already has a value");
            while (indent < indents_.back() && indents_.size() > 1) indents_.pop_back();
            if (indent != indents_.back()) return no("the indentation equals that of no line above");
            if (!keys_.empty()) keys_.resize(indents_.size() - 1);
        }
        return true;
    }

    bool take(std::string key, const std::string& value, bool has_value) {
        keys_.push_back(std::move(key));
        const std::string path = path_of(keys_.size());
        opens_ = !has_value;
        if (keys_.size() == 2 && keys_[0] == "basic_auth_users") return opens_ ? no(path + ": no hash") : take_user(keys_[1], value);
        for (const std::string& before : seen_) if (before == path) return no(path + " is given twice");
        seen_.push_back(path);
        for (const char* section : {"tls_server_config", "http_server_config", "basic_auth_users", "http_server_config.headers"}) {
            if (path != section) continue;
            if (has_value) return no(path + ": a mapping is expected, one indented key: value on each line");
            if (path == "tls_server_config") made_.tls = true, tls_line_ = number_;
            return true;
        }
        static constexpr struct { const char *path, *why; } refused[] = {
            {"rate_limit", "see server_limits"},
            {"tls_server_config.cert", "name a file in cert_file"},
            {"tls_server_config.key", "name a file in key_file"},
            {"tls_server_config.client_ca", "name a file in client_ca_file"},
            {"tls_server_config.client_allowed_sans", "an authorizer can ask for tls_peer::subject"},
            {"tls_server_config.cipher_suites", "OpenSSL's own choice is used"},
            {"tls_server_config.curve_preferences", "OpenSSL's own choice is used"}};
        for (const auto& r : refused) if (path == r.path) return no(path + " is not supported: " + r.why);
        if (keys_.size() == 3 && keys_[1] == "headers" && keys_[2] != "X-Content-Type-Options") return no(path + " is not supported");
        if (path == "tls_server_config.cert_file") return file(made_.certificate, value);
        if (path == "tls_server_config.key_file") return file(made_.key, value);
        if (path == "tls_server_config.client_ca_file") return file(made_.client_ca, value);
        if (path == "tls_server_config.client_auth_type") {
            made_.verifies_clients = value == "RequireAndVerifyClientCert";
            return made_.verifies_clients || one_of(path, value, {"NoClientCert", "RequireAndVerifyClientCert"});
        }
        if (path == "tls_server_config.min_version") {
            made_.min_version = value == "TLS13" ? TLS1_3_VERSION : TLS1_2_VERSION;
            return one_of(path, value, {"TLS12", "TLS13"});
        }
        if (path == "tls_server_config.max_version") return one_of(path, value, {"TLS13"});
        if (path == "tls_server_config.prefer_server_cipher_suites" || path == "http_server_config.http2")
            return one_of(path, value, {"true", "false"});
        if (path == "http_server_config.headers.X-Content-Type-Options") return one_of(path, value, {"nosniff"});
        return no("unknown: " + path);
    }
    bool one_of(const std::string& path, std::string_view value, std::initializer_list<std::string_view> allowed) {
        std::string all;
        for (std::string_view one : allowed) {
            if (value == one) return true;
            all.append(all.empty() ? "" : " or ").append(one);
        }
        return no(path + ": it must be " + all);
    }
    bool file(std::string& into, std::string_view value) {
        if (value.empty()) return no(path_of(keys_.size()) + " is empty");
        into = (value[0] == '/' ? std::string() : directory_) + std::string(value);
        return true;
    }
    bool take_user(std::string_view name, std::string_view hash) {
        const std::string who = "basic_auth_users." + std::string(name.substr(0, 40));
        if (name.empty() || name.size() > longest_name || name.find(':') != name.npos)
            return no("basic_auth_users: a name is empty, longer than 128 octets, or has a colon");
        if (made_.users.size() == 1000) return no("basic_auth_users: more than 1000");
        for (const user& other : made_.users) if (other.name == name) return no(who + " is given twice");
        if (!is_bcrypt(hash)) return no(who + ": not a bcrypt hash ($2a$, $2b$ or $2y$, 60 characters)");  // it is not shown: it may be a password
        if (cost_of(hash) < 4 || cost_of(hash) > highest_cost) return no(who + ": the cost must be from 4 to 16");
        made_.users.push_back({.name = std::string(name), .hash = std::string(hash)});
        return true;
    }

    bool whole() {
        if (!made_.tls && made_.users.empty()) return no("it has neither tls_server_config nor basic_auth_users");
        number_ = tls_line_;
        if (made_.tls && (made_.certificate.empty() || made_.key.empty())) return no("tls_server_config needs cert_file and key_file");
        if (made_.verifies_clients == made_.client_ca.empty())
            return no("tls_server_config: client_ca_file and client_auth_type: RequireAndVerifyClientCert need each other");
        return true;
    }

    std::string_view text_;
    std::string directory_, name_;
    std::size_t number_ = 0, tls_line_ = 0;
    bool begun_ = false, opens_ = false;  // the last line was a key without a value
    std::vector<std::size_t> indents_;    // of the mappings that are open
    std::vector<std::string> keys_;       // the path of the last line
    std::vector<std::string> seen_;
    settings made_;
    prom::error fault_{prom::errc::invalid_option, {}};
};

inline prom::result<settings> read(const std::string& path) {
    struct descriptor {
        int number;
        ~descriptor() { if (number >= 0) ::close(number); }
    } const file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};  // opening a FIFO would wait for its writer
    struct stat st;
    if (file.number < 0 || ::fstat(file.number, &st) != 0) return prom::error::from_errno("cannot open " + path, errno);
    if (!S_ISREG(st.st_mode)) return prom::error(prom::errc::invalid_option, path + " is not a regular file");
    std::string text(longest_file + 1, '\0');
    std::size_t size = 0;
    while (size != text.size()) {
        const ssize_t n = ::read(file.number, text.data() + size, text.size() - size);
        if (n == 0) break;
        if (n > 0) size += static_cast<std::size_t>(n);
        else if (errno != EINTR) return prom::error::from_errno("cannot read " + path, errno);
    }
    text.resize(size);
    if (text.size() > longest_file) return prom::error(prom::errc::invalid_option, path + " is longer than 1 MiB");
    return reader(text, path).read();
}

// ---- passwords ----

/// The user and password of an Authorization field of the Basic scheme. Its memory is wiped when it is destroyed.
struct shown {
    char name[longest_name + 1], password[longest_password + 1];
    std::size_t name_size = 0, password_size = 0;

    shown() noexcept = default;
    shown(const shown&) = delete;
    ~shown() { OPENSSL_cleanse(this, sizeof *this); }
    bool parse(std::string_view field) noexcept {
        if (field.size() < 7 || OPENSSL_strncasecmp(field.data(), "basic ", 6) != 0) return false;
        field.remove_prefix(6);
        while (!field.empty() && field[0] == ' ') field.remove_prefix(1);
        constexpr std::size_t longest = longest_name + 1 + longest_password;
        struct room {
            unsigned char octets[longest + 3], again[(longest + 2) / 3 * 4 + 1];
            ~room() { OPENSSL_cleanse(this, sizeof *this); }
        } r;
        if (field.empty() || field.size() % 4 != 0 || field.size() >= sizeof r.again) return false;
        int n = EVP_DecodeBlock(r.octets, reinterpret_cast<const unsigned char*>(field.data()), static_cast<int>(field.size()));
        if (n < 0) return false;
        n -= (field.back() == '=') + (field[field.size() - 2] == '=');
        // The decoder accepts more than RFC 4648 s.4: the text must be equal to what encoding gives again.
        if (EVP_EncodeBlock(r.again, r.octets, n) != static_cast<int>(field.size()) || std::memcmp(r.again, field.data(), field.size()) != 0)
            return false;
        const std::string_view pair(reinterpret_cast<const char*>(r.octets), static_cast<std::size_t>(n));
        const std::size_t colon = pair.find(':');
        if (colon == pair.npos || colon > longest_name || pair.size() - colon - 1 > longest_password) return false;
        if (pair.find('\0') != pair.npos) return false;  // crypt_r would stop there: "good\0bad" is not "good"
        name_size = pair.copy(name, colon);
        password_size = pair.substr(colon + 1).copy(password, longest_password);
        name[name_size] = password[password_size] = '\0';
        return true;
    }
};

/// bcrypt by crypt_r, with the 32 kB of working memory that it needs.
class hasher {
public:
    static bool available() {  // tests with a known hash: other libraries read the setting as one of DES, or return "*0"
        return hasher().matches("U*U", "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW");
    }
    bool matches(const char* password, const std::string& hash) noexcept {
#if PROMETHEUS_ASYNC_WEB_CONFIG_CRYPT
        const char* const made = ::crypt_r(password, hash.c_str(), memory_.get());
        const bool same = made && std::strlen(made) == hash.size() && CRYPTO_memcmp(made, hash.data(), hash.size()) == 0;
        OPENSSL_cleanse(memory_.get(), sizeof *memory_);
        return same;
#else
        static_cast<void>(password);
        return hash.empty();
#endif
    }

private:
#if PROMETHEUS_ASYNC_WEB_CONFIG_CRYPT
    std::unique_ptr<::crypt_data> memory_ = std::make_unique<::crypt_data>();
#endif
};

/// Credentials that wait for the worker, or for its answer.
struct job {
    shown who;
    std::string hash;
    bool is_user = false, good = false;
    bool busy = false;                // it replaced another one
    unsigned char digest[32];
    std::uint64_t from = 0, turn = 0;  // the peer's address; its turn to be hashed
    prom::event_loop* loop = nullptr;
    std::coroutine_handle<> waiting;  // none: its connection has ended
};

class state {
public:
    explicit state(std::string path) : path_(std::move(path)) {}
    state(const state&) = delete;
    ~state() {
        if (!works_) return;
        {
            const std::lock_guard hold(lock_);
            ends_ = true;
        }
        changed_.notify_one();
        pthread_join(worker_, nullptr);
    }

    prom::result<void> start() {
        if (RAND_bytes(secret_, sizeof secret_) != 1) return prom::error(prom::errc::tls, "OpenSSL has no random numbers");
        if (auto done = load(); !done) return done;
        has_tls_ = now_.tls;
        has_users_ = !now_.users.empty();
        started_ = true;
        sigset_t all, before;  // signals go to the program's other threads
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        const int failed = pthread_create(&worker_, nullptr, [](void* self) -> void* { return static_cast<state*>(self)->work(), nullptr; }, this);
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        if (failed) return prom::error::from_errno("cannot start a thread", failed);
        works_ = true;
        return {};
    }

    prom::result<void> load() {
        const std::lock_guard one(loading_);
        return load_locked();
    }
    void follow(prom::event_handler on_event, void* context) noexcept {
        const std::lock_guard hold(lock_);
        on_event_ = on_event;
        context_ = context;
        follows_ = true;
    }

    bool has_tls() const noexcept { return has_tls_; }
    bool has_users() const noexcept { return has_users_; }

    static prom::owned<prom::tls_session> open(void* self, std::string_view host) noexcept {
        auto& s = *static_cast<state*>(self);
        s.look();
        std::shared_ptr<openssl_server> tls;
        {
            const std::lock_guard hold(s.lock_);
            tls = s.tls_;
        }
        const prom::tls_config hook = tls->hook();
        return hook.open(hook.context, host);
    }

    static prom::task<bool> decide(const prom::authorization_request& request, void* self) {
        auto& s = *static_cast<state*>(self);
        s.look();
        auto asked = std::make_shared<job>();
        if (!asked->who.parse(request.authorization) || !request.loop) co_return false;
        asked->loop = request.loop;
        asked->from = request.from;
        {
            const std::lock_guard hold(s.lock_);
            s.fill(*asked);
            if (s.knows(*asked)) co_return true;
        }
        answer waits(s, asked);
        const bool good = co_await waits;
        if (asked->busy && request.busy) *request.busy = true;
        co_return good;
    }

private:
    static constexpr std::size_t most_waiting = 32;
    struct stamp {
        std::int64_t seconds = 0, nanoseconds = 0, file = 0, size = 0;
        bool operator==(const stamp&) const = default;
    };
    struct stamps {
        stamp settings, certificate, key, client_ca;
        bool operator==(const stamps&) const = default;
    };
    struct files {
        std::string certificate, key, client_ca;
    };

    struct answer {
        state& s;
        std::shared_ptr<job> asked;

        answer(state& of, std::shared_ptr<job> what) noexcept : s(of), asked(std::move(what)) {}
        answer(const answer&) = delete;
        ~answer() {  // the connection may end first
            const std::lock_guard hold(s.lock_);
            asked->waiting = nullptr;
            for (auto at = s.waiting_.begin(); at != s.waiting_.end(); ++at) {
                if (*at != asked) continue;
                s.waiting_.erase(at);
                break;
            }
        }
        bool await_ready() const noexcept { return false; }
        bool await_suspend(std::coroutine_handle<> waiting) {
            const std::lock_guard hold(s.lock_);
            asked->busy = !s.admit(asked);
            if (asked->busy) return false;
            asked->waiting = waiting;
            s.changed_.notify_one();
            return true;
        }
        bool await_resume() const noexcept { return asked->good; }
    };

    /// Called with loading_ held, so that an older reading cannot replace a newer one. Everything is read and checked before
    /// anything is replaced.
    prom::result<void> load_locked() {
        stamps seen = look_at();
        auto read_now = read(path_);
        std::shared_ptr<openssl_server> tls;
        prom::result<void> how;
        if (!read_now) {
            how = read_now.why();
        } else {
            named_ = {read_now->certificate, read_now->key, read_now->client_ca};  // also when they are invalid
            const stamp before = std::exchange(seen, look_at()).settings;
            seen.settings = before;
            how = check_settings(*read_now, tls);
        }
        const std::lock_guard hold(lock_);
        loaded_ = seen;  // an invalid file is read and reported once
        if (!how) return how;
        for (user& u : read_now->users)  // a user whose hash is unchanged keeps the digest
            for (const user& was : now_.users)
                if (was.known && was.name == u.name && was.hash == u.hash) u.known = true, std::memcpy(u.digest, was.digest, sizeof u.digest);
        now_ = std::move(*read_now);
        tls_ = std::move(tls);
        return {};
    }
    prom::result<void> check_settings(const settings& read_now, std::shared_ptr<openssl_server>& tls) {
        const auto no = [this](prom::errc code, const char* why) {
            return prom::error(code, path_.substr(path_.rfind('/') + 1).substr(0, 40) + ": " + why);
        };
        if (!read_now.users.empty() && !hasher::available()) return no(prom::errc::unsupported, "basic_auth_users: this system's libcrypt has no bcrypt");
        if (started_ && read_now.tls != has_tls_) return no(prom::errc::invalid_option, "tls_server_config was added or removed: that needs a restart");
        if (started_ && read_now.users.empty() == has_users_)
            return no(prom::errc::invalid_option, "basic_auth_users was added or removed: that needs a restart");
        if (!read_now.tls) return {};
        auto made = openssl_server::load(read_now.certificate, read_now.key, read_now.client_ca, read_now.min_version);
        if (!made) return made.why();
        tls = std::make_shared<openssl_server>(std::move(*made));
        return {};
    }

    static stamp look_at(const std::string& file) noexcept {
        struct ::stat st {};
        if (file.empty() || ::stat(file.c_str(), &st) != 0) return {};
#ifdef __APPLE__
        const timespec& changed = st.st_mtimespec;
#else
        const timespec& changed = st.st_mtim;
#endif
        return {static_cast<std::int64_t>(changed.tv_sec), static_cast<std::int64_t>(changed.tv_nsec), static_cast<std::int64_t>(st.st_ino),
                static_cast<std::int64_t>(st.st_size)};
    }
    stamps look_at() const noexcept { return {look_at(path_), look_at(named_.certificate), look_at(named_.key), look_at(named_.client_ca)}; }
    /// Asks the worker to check the files, at most once a second: a disk may be slow, and a loop must not wait for it.
    void look() noexcept {
        const double now = prom::monotonic_now();
        const std::lock_guard hold(lock_);
        if (!follows_ || now < next_look_) return;
        next_look_ = now + 1;
        looks_ = true;
        changed_.notify_one();
    }
    void read_again() noexcept {
        prom::result<void> done = prom::error(prom::errc::limit, "no memory to read the web configuration again");
        {
            const std::lock_guard one(loading_);
            if (look_at() == loaded_) return;
#if PROMETHEUS_ASYNC_EXCEPTIONS
            try {
                done = load_locked();
            } catch (...) {  // the next check tries again
            }
#else
            done = load_locked();
#endif
        }
        if (!done) prom::notify(on_event_, context_, {prom::event_kind::certificate_rejected, done.why()});
    }

    // The next five are called with the lock held.

    user* find(const shown& who) noexcept {
        for (user& u : now_.users) if (u.name == std::string_view(who.name, who.name_size)) return &u;
        return nullptr;
    }
    /// For an unknown user: a hash that takes as long to compare, so that the time does not reveal which users exist.
    void fill(job& asked) {
        const user* const known = find(asked.who);
        asked.is_user = known != nullptr;
        const user* costly = &now_.users.front();
        for (const user& u : now_.users) if (cost_of(u.hash) > cost_of(costly->hash)) costly = &u;
        asked.hash = (known ? known : costly)->hash;
        unsigned char whole[sizeof(shown::name) + sizeof(shown::password) + 60];
        std::size_t n = 0;
        const auto put = [&](const char* from, std::size_t size) { std::memcpy(whole + n, from, size), n += size; };
        put(asked.hash.data(), asked.hash.size());
        put(asked.who.name, asked.who.name_size + 1);
        put(asked.who.password, asked.who.password_size);
        unsigned size = 0;
        HMAC(EVP_sha256(), secret_, sizeof secret_, whole, n, asked.digest, &size);
        OPENSSL_cleanse(whole, sizeof whole);
    }
    bool knows(const job& asked) noexcept {
        const user* const known = find(asked.who);
        const unsigned char none[32] = {};
        const bool same = CRYPTO_memcmp(known ? known->digest : none, asked.digest, sizeof none) == 0;
        return known && known->known && same;
    }

    /// Adds it to the queue. Addresses take turns, so many requests from one address delay only that address. If the queue is
    /// full, the newest request of the address that has most of them is removed, if that address then still has no fewer than
    /// the new request's address. False: it was not added.
    bool admit(const std::shared_ptr<job>& asked) {
        const auto places = [this](std::uint64_t from) {
            std::size_t n = 0;
            for (const auto& one : waiting_) n += one->from == from;
            return n;
        };
        if (waiting_.size() >= most_waiting) {
            std::size_t most = places(asked->from) + 1;
            auto gives = waiting_.end();
            for (auto at = waiting_.begin(); at != waiting_.end(); ++at) {
                const std::size_t n = places((*at)->from);
                if (n > most || (gives != waiting_.end() && (*at)->from == (*gives)->from)) most = n, gives = at;
            }
            if (gives == waiting_.end()) return false;
            (*gives)->busy = true;
            tell(*gives);
            waiting_.erase(gives);
        }
        asked->turn = turn_ + 1;
        for (const auto& one : waiting_) if (one->from == asked->from && one->turn >= asked->turn) asked->turn = one->turn + 1;
        waiting_.push_back(asked);
        return true;
    }
    std::shared_ptr<job> next() noexcept {
        auto first = waiting_.begin();
        for (auto at = first; at != waiting_.end(); ++at) if ((*at)->turn < (*first)->turn) first = at;
        std::shared_ptr<job> found = std::move(*first);
        waiting_.erase(first);
        turn_ = found->turn;
        return found;
    }

    /// The worker: reads files, and hashes one after another.
    void work() noexcept {
        std::unique_lock hold(lock_);
        for (;;) {
            changed_.wait(hold, [this] { return ends_ || looks_ || !waiting_.empty(); });
            if (ends_) return;
            if (std::exchange(looks_, false)) {
                hold.unlock();
                read_again();
                hold.lock();
                continue;
            }
            const std::shared_ptr<job> asked = next();
            fill(*asked);                 // since it was queued, the file may have been read,
            asked->good = knows(*asked);  // and the same credentials found correct
            if (!asked->good) {
                hold.unlock();
                const bool same = by_.matches(asked->who.password, asked->hash);
                hold.lock();
                asked->good = same && asked->is_user;
            }
            user* const known = asked->good ? find(asked->who) : nullptr;
            if (known && known->hash == asked->hash) {
                std::memcpy(known->digest, asked->digest, sizeof known->digest);
                known->known = true;
            }
            if (asked->waiting) tell(asked);
        }
    }
    static void tell(const std::shared_ptr<job>& asked) noexcept {
        const auto resume = [asked] { if (const auto h = std::exchange(asked->waiting, nullptr)) h.resume(); };
#if PROMETHEUS_ASYNC_EXCEPTIONS
        try {
            asked->loop->post(resume);
        } catch (...) {  // no memory: the connection ends after server_limits::response
        }
#else
        asked->loop->post(resume);
#endif
    }

    const std::string path_;
    std::mutex loading_, lock_;  // loading_ is locked first
    std::condition_variable changed_;
    settings now_;
    std::shared_ptr<openssl_server> tls_;
    std::deque<std::shared_ptr<job>> waiting_;  // in the order in which they came
    std::uint64_t turn_ = 0;                    // of the request that is being hashed
    hasher by_;                                 // used by the worker, constructed before it
    unsigned char secret_[32];
    pthread_t worker_{};
    bool has_tls_ = false, has_users_ = false, started_ = false;  // of the first reading: they never change
    bool works_ = false, ends_ = false, follows_ = false, looks_ = false;
    files named_;    // of the settings that were read last, valid or not; used with loading_ held, as the next member
    stamps loaded_;
    double next_look_ = 0;
    prom::event_handler on_event_ = nullptr;
    void* context_ = nullptr;
};

}  // namespace web_config_detail

/// A web configuration file, read and checked.
///
/// One worker thread compares passwords, one after another, and reads changed files, so a loop never waits for bcrypt or for
/// a disk. At most 32 requests wait for the worker. Addresses (authorization_request::from) take turns. When 32 wait, the newest
/// request of the address that has most of them is answered 503 with Retry-After; if no address has more than the new
/// request's own, the new request is. For each user a keyed digest of the credentials that were last correct is kept, never
/// the password: a request with the same credentials does not wait. bcrypt uses only the first 72 octets of a password. A
/// password with a NUL, or of more than 511 octets, is wrong.
///
/// lifetime outlives the servers that its hooks were given to; one object serves any number of them. The destructor waits for
///          the password that is being compared, or the file that is being read. In a forked child: load again
/// threads  any
/// errors   load and reload: invalid_option with file, line and name; tls with the file's name; unsupported where libcrypt
///          has no bcrypt. A reload that fails keeps what is in use
class web_config {
public:
    static prometheus_async::result<web_config> load(std::string path) {
        web_config made(new web_config_detail::state(std::move(path)));
        if (auto done = made.state_->start(); !done) return done.why();
        return made;
    }
    /// For server_options::tls; empty without tls_server_config.
    prometheus_async::tls_config tls() const noexcept {
        if (!state_->has_tls()) return {};
        return {web_config_detail::state::open, state_.get()};
    }
    /// For server_options::authorizer; empty without basic_auth_users.
    prometheus_async::authorizer authorizer() const noexcept {
        if (!state_->has_users()) return {};
        return {.later = web_config_detail::state::decide, .context = state_.get()};
    }
    /// Reads the file and the certificates again. New connections use the new certificate, new requests the new users.
    /// Whether there is TLS, and whether there are users, cannot change.
    prometheus_async::result<void> reload() { return state_->load(); }
    /// From now on a new connection or request makes the worker check, at most once a second, whether the file or the
    /// certificates have changed, and read them again. A password that waits is compared with the new users; later connections
    /// use the new certificate. An invalid file is reported once, as certificate_rejected, on the worker's thread.
    /// Call it before serving.
    void follow(prometheus_async::event_handler on_event = nullptr, void* context = nullptr) noexcept { state_->follow(on_event, context); }

private:
    explicit web_config(web_config_detail::state* made) noexcept : state_(made) {}
    prometheus_async::owned<web_config_detail::state> state_;
};

#endif

// TLS for prometheus_async.hpp by OpenSSL 3: copy this file beside it. Link with -lssl -lcrypto.
//
//     auto tls = openssl_server::load("cert.pem", "key.pem").value();
//     auto server = co_await prom::start_http_server(loop, {.port = 9464, .tls = tls.hook()});
//
// TLS 1.2 and 1.3, ALPN http/1.1 or none, no renegotiation, no tickets, no early data. A session
// uses memory only, no socket; one that has nothing to send or to read holds no buffer.
#ifndef PROMETHEUS_ASYNC_TLS_OPENSSL_HPP
#define PROMETHEUS_ASYNC_TLS_OPENSSL_HPP

#ifndef PROMETHEUS_ASYNC_HPP
#include "prometheus_async.hpp"
#endif

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdio>
#include <memory>
#include <mutex>

#if OPENSSL_VERSION_NUMBER < 0x30000000L
#error "tls_openssl.hpp needs OpenSSL 3"
#endif

namespace openssl_detail {

namespace prom = prometheus_async;

constexpr std::size_t record = 16384;  // the largest TLS plaintext, and the bound of both directions

/// Octets that were received or are to be sent.
class pipe {
public:
    pipe() noexcept = default;
    pipe(const pipe&) = delete;
    pipe& operator=(const pipe&) = delete;
    ~pipe() { std::free(data_); }

    std::size_t size() const noexcept { return end_ - begin_; }
    bool put(const char* from, std::size_t n) noexcept {
        if (end_ + n > capacity_ && begin_) {
            std::memmove(data_, data_ + begin_, size());
            end_ -= std::exchange(begin_, 0);
        }
        if (end_ + n > capacity_) {
            void* more = std::realloc(data_, end_ + n);
            if (!more) return false;
            data_ = static_cast<char*>(more);
            capacity_ = end_ + n;
        }
        if (n) std::memcpy(data_ + end_, from, n);
        end_ += n;
        return true;
    }
    std::size_t take(char* to, std::size_t n) noexcept {
        if (n > size()) n = size();
        if (n) std::memcpy(to, data_ + begin_, n);
        begin_ += n;
        if (begin_ == end_) {
            std::free(std::exchange(data_, nullptr));
            begin_ = end_ = capacity_ = 0;
        }
        return n;
    }

private:
    char* data_ = nullptr;
    std::size_t begin_ = 0, end_ = 0, capacity_ = 0;
};

constexpr const char* out_of_memory = "out of memory";  // short: no string allocates for it

/// The first of the thread's queued errors, which is the cause; empties the queue.
inline std::string queued_error() {
    const unsigned long code = ERR_get_error();
    ERR_clear_error();
#ifdef ERR_SYSTEM_ERROR  // OpenSSL 3 has no text for an errno
    if (ERR_SYSTEM_ERROR(code)) return prom::error::from_errno("the system", ERR_GET_REASON(code)).describe();
#endif
    const char* reason = ERR_reason_error_string(code);
    return reason ? reason : code ? "error " + std::to_string(code) : out_of_memory;
}

class session final : public prom::tls_session {
public:
    static prom::owned<prom::tls_session> make(SSL_CTX* context, bool server, std::string_view host, bool verify) noexcept {
        auto* self = new (std::nothrow) session;
        prom::owned<prom::tls_session> mine(self);
        if (!self || !self->begin(context, server, host, verify)) return {};
        return mine;
    }
    ~session() override { SSL_free(ssl_); }

    prom::tls_io feed(std::span<const char> from) noexcept override {
        if (failed_) return {};
        const std::size_t room = in_.size() < record ? record - in_.size() : 0;
        const std::size_t n = from.size() < room ? from.size() : room;
        if (!in_.put(from.data(), n)) return fail([] { return out_of_memory; }), prom::tls_io{};
        return {prom::tls_status::ok, n, 0};
    }
    prom::tls_io drain(std::span<char> to) noexcept override {
        return {failed_ ? prom::tls_status::failed : prom::tls_status::ok, 0, out_.take(to.data(), to.size())};
    }
    prom::tls_status handshake() noexcept override {
        if (failed_) return prom::tls_status::failed;
        ERR_clear_error();  // an old error of another connection would turn "want read" into a failure
        return status(SSL_do_handshake(ssl_));
    }
    prom::tls_io read(std::span<char> plain) noexcept override {
        if (failed_) return {};
        if (out_.size() > 4 * record) return {prom::tls_status::need_output, 0, 0};
        ERR_clear_error();
        std::size_t n = 0;
        const auto how = status(SSL_read_ex(ssl_, plain.data(), plain.size(), &n));
        return {how, 0, n};
    }
    prom::tls_io write(std::span<const char> plain) noexcept override {
        if (failed_) return {};
        if (out_.size()) return {prom::tls_status::need_output, 0, 0};  // one record at a time
        if (plain.empty()) return {prom::tls_status::ok, 0, 0};
        ERR_clear_error();
        std::size_t n = 0;
        const auto how = status(SSL_write_ex(ssl_, plain.data(), plain.size() < record ? plain.size() : record, &n));
        return {how, n, 0};
    }
    prom::tls_status shutdown() noexcept override {
        if (failed_) return prom::tls_status::failed;  // never SSL_shutdown after a fatal error
        ERR_clear_error();
        if (!SSL_in_init(ssl_)) SSL_shutdown(ssl_);
        return prom::tls_status::closed;
    }
    prom::tls_peer peer() const override {
        prom::tls_peer p;
        p.protocol = SSL_get_version(ssl_);
        p.cipher = SSL_get_cipher_name(ssl_);
        const unsigned char* alpn = nullptr;
        unsigned alpn_size = 0;
        SSL_get0_alpn_selected(ssl_, &alpn, &alpn_size);
        p.alpn.assign(alpn, alpn + alpn_size);
        const X509* certificate = SSL_get0_peer_certificate(ssl_);
        if (!certificate) return p;
        p.verified = SSL_get_verify_mode(ssl_) != SSL_VERIFY_NONE && SSL_get_verify_result(ssl_) == X509_V_OK;
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned digest_size = 0;
        if (X509_digest(certificate, EVP_sha256(), digest, &digest_size))
            for (unsigned i = 0; i != digest_size; ++i)
                for (int shift : {4, 0}) p.fingerprint += "0123456789abcdef"[digest[i] >> shift & 15];
        if (!p.verified) return p;
        if (BIO* text = BIO_new(BIO_s_mem())) {
            constexpr unsigned long escape_msb = ASN1_STRFLGS_ESC_MSB;  // UTF-8 stays as it is
            X509_NAME_print_ex(text, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253 & ~escape_msb);
            char chunk[256];
            for (int n; (n = BIO_read(text, chunk, sizeof chunk)) > 0;) p.subject.append(chunk, static_cast<std::size_t>(n));
            BIO_free(text);
        }
        return p;
    }
    std::string last_error() const override { return error_; }

private:
    session() noexcept = default;

    bool begin(SSL_CTX* context, bool server, std::string_view host, bool verify) noexcept {
        ERR_clear_error();
        ssl_ = SSL_new(context);  // keeps the context: a reload does not change this session
        BIO* both = ssl_ ? BIO_new(method()) : nullptr;
        if (!both) return false;
        BIO_set_data(both, this);
        BIO_set_init(both, 1);
        SSL_set_bio(ssl_, both, both);
        if (server) return SSL_set_accept_state(ssl_), true;
        SSL_set_connect_state(ssl_);
        if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
        if (!host.empty() && host.back() == '.') host.remove_suffix(1);
        char name[256] = "";  // no host name is longer
        if (host.empty() || host.size() >= sizeof name) return false;  // there is no name to verify the certificate with
        host.copy(name, host.size());
        unsigned char address[16];
        const bool numeric = inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
        if (!numeric &&  // no SNI for an address; OpenSSL's macro for this has an old-style cast
            SSL_ctrl(ssl_, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, name) != 1)
            return false;
        if (!verify) return true;
        X509_VERIFY_PARAM* wanted = SSL_get0_param(ssl_);
        X509_VERIFY_PARAM_set_hostflags(wanted, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        return (numeric ? X509_VERIFY_PARAM_set1_ip_asc(wanted, name) : X509_VERIFY_PARAM_set1_host(wanted, name, host.size())) == 1;
    }

    // Our own BIO, because a memory BIO never frees its largest buffer. Writing never blocks: write() checks
    // out_ first, so SSL_write never has to be repeated with the same buffer.
    static BIO_METHOD* method() noexcept {
        static std::atomic<BIO_METHOD*> kept;  // null: not made yet, or there was no memory for it
        if (BIO_METHOD* const made = kept.load(std::memory_order_acquire)) return made;
        BIO_METHOD* const fresh = make_method();
        BIO_METHOD* made = nullptr;
        if (!fresh || kept.compare_exchange_strong(made, fresh, std::memory_order_acq_rel)) return fresh;
        BIO_meth_free(fresh);
        return made;
    }
    static BIO_METHOD* make_method() noexcept {
        BIO_METHOD* const m = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "prometheus_async");
        if (!m) return m;
        BIO_meth_set_write(m, [](BIO* b, const char* from, int n) {
            auto* self = static_cast<session*>(BIO_get_data(b));
            return self->out_.put(from, static_cast<std::size_t>(n)) ? n : -1;
        });
        BIO_meth_set_read(m, [](BIO* b, char* to, int n) {
            auto* self = static_cast<session*>(BIO_get_data(b));
            BIO_clear_retry_flags(b);
            const std::size_t got = self->in_.take(to, static_cast<std::size_t>(n));
            if (!got) BIO_set_retry_read(b);  // no octets now is not the end of the stream
            return got ? static_cast<int>(got) : -1;
        });
        BIO_meth_set_ctrl(m, [](BIO*, int what, long, void*) { return what == BIO_CTRL_FLUSH ? 1L : 0L; });
        return m;
    }

    prom::tls_status status(int returned) noexcept {
        if (returned == 1) return prom::tls_status::ok;
        switch (SSL_get_error(ssl_, returned)) {
        case SSL_ERROR_WANT_READ: return prom::tls_status::need_input;
        case SSL_ERROR_WANT_WRITE: return prom::tls_status::need_output;
        case SSL_ERROR_ZERO_RETURN: return prom::tls_status::closed;
        default: break;
        }
        return fail([this] {
            std::string why = queued_error();
            if (const long verdict = SSL_get_verify_result(ssl_); verdict != X509_V_OK)
                why.append(": ").append(X509_verify_cert_error_string(verdict));
            return why;
        });
    }
    /// `why` makes the text of the reason; it may fail for lack of memory.
    template <class Why>
    prom::tls_status fail(Why why) noexcept {
        failed_ = true;
#if PROMETHEUS_ASYNC_EXCEPTIONS
        try {
            error_ = why();
        } catch (...) {
            error_ = out_of_memory;
        }
#else
        error_ = why();
#endif
        ERR_clear_error();
        return prom::tls_status::failed;
    }

    SSL* ssl_ = nullptr;
    pipe in_, out_;
    bool failed_ = false;
    std::string error_;
};

struct context_free {
    void operator()(SSL_CTX* c) const noexcept { SSL_CTX_free(c); }
};

/// The files of one side, and the context that was last made from them.
class store {
public:
    store(bool server, std::string certificate, std::string key, std::string ca, int min_version = TLS1_2_VERSION)
        : server_(server), min_version_(min_version), certificate_(std::move(certificate)), key_(std::move(key)), ca_(std::move(ca)) {}
    store(const store&) = delete;
    store& operator=(const store&) = delete;
    ~store() { SSL_CTX_free(context_); }

    // Everything is loaded and checked before anything is replaced.
    prom::result<void> load() {
        const stamps seen = look_at_files();
        ERR_clear_error();
        const std::unique_ptr<SSL_CTX, context_free> fresh(SSL_CTX_new(server_ ? TLS_server_method() : TLS_client_method()));
        prom::result<void> made = build(fresh.get());
        const std::lock_guard hold(lock_);
        loaded_ = seen;  // an invalid pair is tried and reported once, not for each connection
        if (made) {
            SSL_CTX_up_ref(fresh.get());
            SSL_CTX_free(std::exchange(context_, fresh.get()));
        }
        return made;
    }
    prom::owned<prom::tls_session> open(std::string_view host) noexcept {
        if (follow_) look();
        SSL_CTX* current;
        {
            const std::lock_guard hold(lock_);
            current = context_;
            SSL_CTX_up_ref(current);
        }
        auto made = session::make(current, server_, host, verify);
        SSL_CTX_free(current);
        return made;
    }
    void follow(prom::event_handler on_event, void* context) noexcept {
        on_event_ = on_event;
        event_context_ = context;
        follow_ = true;
    }

    bool verify = true;

private:
    struct stamps {
        std::int64_t parts[9] = {};
        bool operator==(const stamps&) const = default;
    };

    stamps look_at_files() const noexcept {
        stamps s;
        std::size_t i = 0;
        for (const std::string* file : {&certificate_, &key_, &ca_}) {
            struct ::stat st {};
            if (!file->empty() && ::stat(file->c_str(), &st) == 0) {
#ifdef __APPLE__
                const timespec& changed = st.st_mtimespec;
#else
                const timespec& changed = st.st_mtim;
#endif
                s.parts[i] = static_cast<std::int64_t>(changed.tv_sec) * 1000000000 + changed.tv_nsec;
                s.parts[i + 1] = static_cast<std::int64_t>(st.st_ino);
                s.parts[i + 2] = static_cast<std::int64_t>(st.st_size);
            }
            i += 3;
        }
        return s;
    }
    void look() noexcept {
        const double now = prom::monotonic_now();
        {
            const std::lock_guard hold(lock_);
            if (now < next_look_) return;
            next_look_ = now + 1;
            if (look_at_files() == loaded_) return;
        }
        prom::result<void> done = prom::error(prom::errc::tls, "no memory to read the certificate again");
#if PROMETHEUS_ASYNC_EXCEPTIONS
        try {
            done = load();
        } catch (...) {  // the next check tries again
        }
#else
        done = load();
#endif
        if (!done) prom::notify(on_event_, event_context_, {prom::event_kind::certificate_rejected, done.why()});
    }

    static prom::error bad(const char* what, const std::string& file) {
        std::string text = what;
        if (!file.empty()) text.append(" ").append(file);
        return {prom::errc::tls, text.append(": ").append(queued_error())};
    }
    /// Whether reading it could wait without end, as for the writer of a FIFO.
    static bool unfit(const std::string& file) noexcept {
        struct stat st;
        return !file.empty() && ::stat(file.c_str(), &st) == 0 && !S_ISREG(st.st_mode);
    }
    prom::result<void> build(SSL_CTX* c) const {
        for (const std::string* file : {&certificate_, &key_, &ca_})
            if (unfit(*file)) return prom::error(prom::errc::tls, *file + " is not a regular file");
        if (!c || !SSL_CTX_set_min_proto_version(c, min_version_)) return bad("OpenSSL cannot start", {});
        SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET);
        SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
        SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_num_tickets(c, 0);  // a ticket after the handshake gives an error to a client that closes at once
        SSL_CTX_set_default_passwd_cb(c, [](char*, int, int, void*) { return -1; });  // never read a password from a terminal
        if (!certificate_.empty()) {
            if (SSL_CTX_use_certificate_chain_file(c, certificate_.c_str()) != 1) return bad("cannot load certificate", certificate_);
            if (SSL_CTX_use_PrivateKey_file(c, key_.c_str(), SSL_FILETYPE_PEM) != 1) return bad("cannot load key", key_);
            if (SSL_CTX_check_private_key(c) != 1) return bad("key does not match certificate", certificate_);
        }
        if (!ca_.empty()) {
            if (SSL_CTX_load_verify_file(c, ca_.c_str()) != 1) return bad("cannot load CA", ca_);
            if (server_) SSL_CTX_set_client_CA_list(c, SSL_load_client_CA_file(ca_.c_str()));
        } else if (!server_ && SSL_CTX_set_default_verify_paths(c) != 1) {
            return bad("cannot find the system's CAs", {});
        }
        if (server_) {
            SSL_CTX_set_alpn_select_cb(c, choose, nullptr);
            if (!ca_.empty()) SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
        } else {
            constexpr unsigned char offer[] = "\x08http/1.1";
            if (SSL_CTX_set_alpn_protos(c, offer, 9) != 0) return bad("OpenSSL cannot start", {});
            SSL_CTX_set_verify(c, verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
        }
        return {};
    }
    // Never h2, which Prometheus 3 offers. If http/1.1 is not offered, no protocol is selected, without an alert.
    static int choose(SSL*, const unsigned char** out, unsigned char* size, const unsigned char* offer, unsigned n, void*) {
        for (unsigned at = 0; at + 9 <= n; at += offer[at] + 1u) {
            if (offer[at] != 8 || std::memcmp(offer + at + 1, "http/1.1", 8) != 0) continue;
            *out = offer + at + 1;
            *size = 8;
            return SSL_TLSEXT_ERR_OK;
        }
        return SSL_TLSEXT_ERR_NOACK;
    }

    const bool server_;
    const int min_version_;
    const std::string certificate_, key_, ca_;
    std::mutex lock_;
    SSL_CTX* context_ = nullptr;
    stamps loaded_;
    double next_look_ = 0;
    bool follow_ = false;
    prom::event_handler on_event_ = nullptr;
    void* event_context_ = nullptr;
};

inline prom::owned<prom::tls_session> open(void* context, std::string_view host) noexcept {
    return static_cast<store*>(context)->open(host);
}

}  // namespace openssl_detail

/// The server's side: a certificate chain and its key, PEM. With a client CA, clients must show a
/// certificate signed by it; tls_peer::subject and fingerprint identify the client to the authorizer.
///
/// lifetime outlives the servers that its hook was given to
/// threads  any
/// errors   load and reload: tls, with the file's name. After a reload that fails the old certificate stays in use
class openssl_server {
public:
    /// min_version is TLS1_2_VERSION or TLS1_3_VERSION.
    static prometheus_async::result<openssl_server> load(std::string certificate, std::string key, std::string client_ca = {},
                                                         int min_version = TLS1_2_VERSION) {
        openssl_server made(new openssl_detail::store(true, std::move(certificate), std::move(key), std::move(client_ca), min_version));
        if (auto done = made.reload(); !done) return done.why();
        return made;
    }
    prometheus_async::tls_config hook() const noexcept { return {openssl_detail::open, store_.get()}; }
    /// Reads the files again. New connections use the new certificate; open ones keep theirs.
    prometheus_async::result<void> reload() { return store_->load(); }
    /// From now on a new connection checks, at most once a second, whether the files have changed, and
    /// reloads them. An invalid new pair is reported once, as certificate_rejected. Call it before serving.
    void follow(prometheus_async::event_handler on_event = nullptr, void* context = nullptr) noexcept { store_->follow(on_event, context); }

private:
    explicit openssl_server(openssl_detail::store* made) noexcept : store_(made) {}
    prometheus_async::owned<openssl_detail::store> store_;
};

/// The client's side: verifies the server's chain (against the CA file, or the system's CAs) and that
/// the certificate is for the host or IP address that is connected to.
///
/// lifetime outlives what its hook was given to
/// threads  any
/// errors   tls, with the file's name
class openssl_client {
public:
    static prometheus_async::result<openssl_client> load(std::string ca = {}, std::string certificate = {}, std::string key = {}) {
        openssl_client made(new openssl_detail::store(false, std::move(certificate), std::move(key), std::move(ca)));
        if (auto done = made.store_->load(); !done) return done.why();
        return made;
    }
    /// Encrypts without checking the peer: an attacker between the two can read and change everything.
    static prometheus_async::result<openssl_client> insecure_without_verification() {
        openssl_client made(new openssl_detail::store(false, {}, {}, {}));
        made.store_->verify = false;
        if (auto done = made.store_->load(); !done) return done.why();
        return made;
    }
    prometheus_async::tls_config hook() const noexcept { return {openssl_detail::open, store_.get()}; }

private:
    explicit openssl_client(openssl_detail::store* made) noexcept : store_(made) {}
    prometheus_async::owned<openssl_detail::store> store_;
};

#endif

// TLS for prometheus_async.hpp by mbedTLS 2.28 or 3: copy this file beside it. Link with
// -lmbedtls -lmbedx509 -lmbedcrypto.
//
//     auto tls = mbedtls_server::load("cert.pem", "key.pem").value();
//     auto server = co_await prom::start_http_server(loop, {.port = 9464, .tls = tls.hook()});
//
// TLS 1.2 (and 1.3 where mbedTLS has it), no renegotiation, no tickets. The server selects no ALPN
// protocol, which leaves HTTP/1.1: mbedTLS would end the handshake with a client that offers only other protocols.
#ifndef PROMETHEUS_ASYNC_TLS_MBEDTLS_HPP
#define PROMETHEUS_ASYNC_TLS_MBEDTLS_HPP

#ifndef PROMETHEUS_ASYNC_HPP
#include "prometheus_async.hpp"
#endif

#include <arpa/inet.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/md.h>
#include <mbedtls/oid.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#include <sys/stat.h>

#include <memory>
#include <mutex>

#if MBEDTLS_VERSION_NUMBER < 0x021C0000 || MBEDTLS_VERSION_NUMBER >= 0x04000000
#error "tls_mbedtls.hpp needs mbedTLS 2.28 or 3"
#endif
#if MBEDTLS_VERSION_NUMBER >= 0x03000000 && defined(MBEDTLS_PSA_CRYPTO_C)
#include <psa/crypto.h>
#endif
#ifndef MBEDTLS_PRIVATE
#define MBEDTLS_PRIVATE(member) member
#endif

namespace mbedtls_detail {

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

inline std::string text_of(int code) {
    char text[128] = "";
    mbedtls_strerror(code, text, sizeof text);
    return text;
}

/// What sessions share: made once, never changed, destroyed with the last session.
struct context {
    context() noexcept {
        mbedtls_ssl_config_init(&config);
        mbedtls_x509_crt_init(&certificate);
        mbedtls_x509_crt_init(&ca);
        mbedtls_pk_init(&key);
        mbedtls_entropy_init(&entropy);
        mbedtls_ctr_drbg_init(&random);
    }
    context(const context&) = delete;
    context& operator=(const context&) = delete;
    ~context() {
        mbedtls_ssl_config_free(&config);
        mbedtls_x509_crt_free(&certificate);
        mbedtls_x509_crt_free(&ca);
        mbedtls_pk_free(&key);
        mbedtls_ctr_drbg_free(&random);
        mbedtls_entropy_free(&entropy);
    }
    mbedtls_ssl_config config;
    mbedtls_x509_crt certificate, ca;
    mbedtls_pk_context key;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
};

class session final : public prom::tls_session {
public:
    static prom::owned<prom::tls_session> make(std::shared_ptr<const context> shared, bool server, std::string_view host) noexcept {
        auto* self = new (std::nothrow) session(std::move(shared));
        prom::owned<prom::tls_session> mine(self);
        if (!self || !self->begin(server, host)) return {};
        return mine;
    }
    ~session() override { mbedtls_ssl_free(&ssl_); }

    prom::tls_io feed(std::span<const char> from) noexcept override {
        if (failed_) return {};
        const std::size_t room = in_.size() < record ? record - in_.size() : 0;
        const std::size_t n = from.size() < room ? from.size() : room;
        if (!in_.put(from.data(), n)) return fail(MBEDTLS_ERR_SSL_ALLOC_FAILED), prom::tls_io{};
        return {prom::tls_status::ok, n, 0};
    }
    prom::tls_io drain(std::span<char> to) noexcept override {
        return {failed_ ? prom::tls_status::failed : prom::tls_status::ok, 0, out_.take(to.data(), to.size())};
    }
    prom::tls_status handshake() noexcept override {
        return failed_ ? prom::tls_status::failed : status(mbedtls_ssl_handshake(&ssl_));
    }
    prom::tls_io read(std::span<char> plain) noexcept override {
        if (failed_ || plain.empty()) return {failed_ ? prom::tls_status::failed : prom::tls_status::ok, 0, 0};
        if (out_.size() > 4 * record) return {prom::tls_status::need_output, 0, 0};
        int n = mbedtls_ssl_read(&ssl_, bytes(plain.data()), plain.size());
#if defined(MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET)  // not an error, and not data
        while (n == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET) n = mbedtls_ssl_read(&ssl_, bytes(plain.data()), plain.size());
#endif
        if (n > 0) return {prom::tls_status::ok, 0, static_cast<std::size_t>(n)};
        return {n == 0 ? fail(MBEDTLS_ERR_SSL_CONN_EOF) : status(n), 0, 0};
    }
    prom::tls_io write(std::span<const char> plain) noexcept override {
        if (failed_) return {};
        if (out_.size()) return {prom::tls_status::need_output, 0, 0};  // one record at a time
        if (plain.empty()) return {prom::tls_status::ok, 0, 0};
        const int n = mbedtls_ssl_write(&ssl_, bytes(plain.data()), plain.size() < record ? plain.size() : record);
        if (n > 0) return {prom::tls_status::ok, static_cast<std::size_t>(n), 0};
        return {status(n), 0, 0};
    }
    prom::tls_status shutdown() noexcept override {
        if (failed_) return prom::tls_status::failed;
        if (done_ && !std::exchange(closing_, true)) mbedtls_ssl_close_notify(&ssl_);
        return prom::tls_status::closed;
    }
    prom::tls_peer peer() const override {
        prom::tls_peer p;
        if (const char* name = mbedtls_ssl_get_version(&ssl_)) p.protocol = name;
        if (const char* name = mbedtls_ssl_get_ciphersuite(&ssl_)) p.cipher = name;
#if defined(MBEDTLS_SSL_ALPN)
        if (const char* name = mbedtls_ssl_get_alpn_protocol(&ssl_)) p.alpn = name;
#endif
        const mbedtls_x509_crt* certificate = mbedtls_ssl_get_peer_cert(&ssl_);
        if (!certificate) return p;
        p.verified = verifies_ && mbedtls_ssl_get_verify_result(&ssl_) == 0;
        unsigned char digest[32] = {};
        if (mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), certificate->raw.p, certificate->raw.len, digest) == 0)
            for (unsigned char octet : digest) hex(p.fingerprint, octet);
        if (p.verified) p.subject = rfc4514(certificate->subject);
        return p;
    }
    std::string last_error() const override { return error_; }

private:
    explicit session(std::shared_ptr<const context> shared) noexcept : shared_(std::move(shared)) { mbedtls_ssl_init(&ssl_); }

    bool begin(bool server, std::string_view host) noexcept {
        verifies_ = shared_->ca.version != 0;
        if (mbedtls_ssl_setup(&ssl_, &shared_->config) != 0) return false;
        // Sending never fails and never blocks: write() checks out_ first. So no call has to be repeated,
        // for which mbedTLS would require the same data.
        mbedtls_ssl_set_bio(
            &ssl_, this,
            [](void* self, const unsigned char* from, std::size_t n) {
                const bool put = static_cast<session*>(self)->out_.put(reinterpret_cast<const char*>(from), n);
                return put ? static_cast<int>(n) : MBEDTLS_ERR_SSL_ALLOC_FAILED;
            },
            [](void* self, unsigned char* to, std::size_t n) {
                const std::size_t got = static_cast<session*>(self)->in_.take(reinterpret_cast<char*>(to), n);
                return got ? static_cast<int>(got) : MBEDTLS_ERR_SSL_WANT_READ;
            },
            nullptr);
        if (server) return true;
        if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
        if (!host.empty() && host.back() == '.') host.remove_suffix(1);
        char name[256] = "";  // no host name is longer
        if (host.empty() || host.size() >= sizeof name) return false;  // there is no name to verify the certificate with
        host.copy(name, host.size());
        address_size_ = inet_pton(AF_INET, name, address_) == 1 ? 4 : inet_pton(AF_INET6, name, address_) == 1 ? 16 : 0;
        if (!address_size_) return mbedtls_ssl_set_hostname(&ssl_, name) == 0;
        mbedtls_ssl_set_verify(&ssl_, check_address, this);
        return mbedtls_ssl_set_hostname(&ssl_, nullptr) == 0;  // no SNI for an address
    }

    // mbedTLS 2.28 does not compare addresses, so it is done here: only an iPAddress entry counts.
    static int check_address(void* self, mbedtls_x509_crt* certificate, int depth, std::uint32_t* flags) {
        if (depth != 0) return 0;
        const auto* me = static_cast<const session*>(self);
        for (const mbedtls_x509_sequence* san = &certificate->subject_alt_names; san; san = san->next) {
            if (san->buf.tag == (MBEDTLS_ASN1_CONTEXT_SPECIFIC | MBEDTLS_X509_SAN_IP_ADDRESS) &&
                san->buf.len == me->address_size_ && std::memcmp(san->buf.p, me->address_, san->buf.len) == 0)
                return 0;
        }
        *flags |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
        return 0;
    }

    prom::tls_status status(int returned) noexcept {
        switch (returned) {
        case 0:
            done_ = true;
            return prom::tls_status::ok;
        case MBEDTLS_ERR_SSL_WANT_READ: return prom::tls_status::need_input;
        case MBEDTLS_ERR_SSL_WANT_WRITE: return prom::tls_status::need_output;
        case MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY: return prom::tls_status::closed;
        default: return fail(returned);
        }
    }
    prom::tls_status fail(int code) noexcept {
        failed_ = true;
        if (code == MBEDTLS_ERR_SSL_NO_CLIENT_CERTIFICATE && !out_.size())  // 2.28 sends no alert to the client
            mbedtls_ssl_send_alert_message(&ssl_, MBEDTLS_SSL_ALERT_LEVEL_FATAL, MBEDTLS_SSL_ALERT_MSG_HANDSHAKE_FAILURE);
#if PROMETHEUS_ASYNC_EXCEPTIONS
        try {
            error_ = reason(code);
        } catch (...) {
            error_ = "out of memory";  // short: it allocates nothing
        }
#else
        error_ = reason(code);
#endif
        return prom::tls_status::failed;
    }
    std::string reason(int code) const {
        std::string all = text_of(code);
#if !defined(MBEDTLS_X509_REMOVE_INFO)
        char why[256] = "";
        const std::uint32_t verdict = mbedtls_ssl_get_verify_result(&ssl_);
        if (verdict != 0 && verdict != 0xFFFFFFFFu && mbedtls_x509_crt_verify_info(why, sizeof why, "", verdict) > 0) {
            const std::string_view first = why;
            all.append(": ").append(first.substr(0, first.find('\n')));
        }
#endif
        return all;
    }

    static unsigned char* bytes(char* p) noexcept { return reinterpret_cast<unsigned char*>(p); }
    static const unsigned char* bytes(const char* p) noexcept { return reinterpret_cast<const unsigned char*>(p); }
    static void hex(std::string& out, unsigned char octet) {
        out += "0123456789abcdef"[octet >> 4];
        out += "0123456789abcdef"[octet & 15];
    }
    // mbedtls_x509_dn_gets prints another order and, in 2.28, escapes nothing.
    static std::string rfc4514(const mbedtls_x509_name& first) {
        std::string all;
        for (const mbedtls_x509_name* n = &first; n;) {
            std::string rdn;  // one attribute, or several joined by '+'
            for (bool more = true; more && n; n = n->next) {
                if (!rdn.empty()) rdn += '+';
                attribute(rdn, *n);
                more = n->MBEDTLS_PRIVATE(next_merged) != 0;
            }
            all = all.empty() ? std::move(rdn) : rdn + ',' + all;
        }
        return all;
    }
    static void attribute(std::string& out, const mbedtls_x509_name& n) {
        const char* name = nullptr;
        if (mbedtls_oid_get_attr_short_name(&n.oid, &name) != 0 || !name) {  // as dotted numbers, with the value in DER
            char dotted[128] = "";
            mbedtls_oid_get_numeric_string(dotted, sizeof dotted, &n.oid);
            out.append(dotted).append("=#");
            hex(out, static_cast<unsigned char>(n.val.tag));
            if (n.val.len > 127) hex(out, n.val.len > 255 ? 0x82 : 0x81);
            if (n.val.len > 255) hex(out, static_cast<unsigned char>(n.val.len >> 8));
            hex(out, static_cast<unsigned char>(n.val.len));
            for (std::size_t i = 0; i != n.val.len; ++i) hex(out, n.val.p[i]);
            return;
        }
        out.append(name).append("=");
        for (std::size_t i = 0; i != n.val.len; ++i) {
            const auto c = static_cast<char>(n.val.p[i]);
            const bool edge = (i == 0 && (c == ' ' || c == '#')) || (i + 1 == n.val.len && c == ' ');
            if (n.val.p[i] < 0x20 || n.val.p[i] == 0x7F) {
                out += '\\';
                for (int shift : {4, 0}) out += "0123456789ABCDEF"[n.val.p[i] >> shift & 15];
                continue;
            }
            if (edge || std::string_view(",+\"\\<>;").find(c) != std::string_view::npos) out += '\\';
            out += c;
        }
    }

    std::shared_ptr<const context> shared_;
    mbedtls_ssl_context ssl_;
    pipe in_, out_;
    unsigned char address_[16] = {};
    std::size_t address_size_ = 0;
    bool verifies_ = false, done_ = false, closing_ = false, failed_ = false;
    std::string error_;
};

/// The files of one side, and the context that was last made from them.
class store {
public:
    store(bool server, std::string certificate, std::string key, std::string ca)
        : server_(server), certificate_(std::move(certificate)), key_(std::move(key)), ca_(std::move(ca)) {}
    store(const store&) = delete;
    store& operator=(const store&) = delete;

    // Everything is loaded and checked before anything is replaced.
    prom::result<void> load() {
        const stamps seen = look_at_files();
        auto fresh = std::make_shared<context>();
        prom::result<void> made = build(*fresh);
        const std::lock_guard hold(lock_);
        loaded_ = seen;  // an invalid pair is tried and reported once, not for each connection
        if (made) context_ = std::move(fresh);
        return made;
    }
    prom::owned<prom::tls_session> open(std::string_view host) noexcept {
        if (follow_) look();
        std::shared_ptr<const context> current;
        {
            const std::lock_guard hold(lock_);
            current = context_;
        }
        return session::make(std::move(current), server_, host);
    }
    void follow(prom::event_handler on_event, void* on_event_context) noexcept {
        on_event_ = on_event;
        event_context_ = on_event_context;
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

    static prom::error bad(std::string what, const std::string& file, int code) {
        if (!file.empty()) what.append(" ").append(file);
        return {prom::errc::tls, what.append(": ").append(text_of(code))};
    }
    /// Whether reading it could wait without end, as for the writer of a FIFO.
    static bool unfit(const std::string& file) noexcept {
        struct stat st;
        return !file.empty() && ::stat(file.c_str(), &st) == 0 && !S_ISREG(st.st_mode);
    }
    prom::result<void> build(context& c) const {
        for (const std::string* file : {&certificate_, &key_, &ca_})
            if (unfit(*file)) return prom::error(prom::errc::tls, *file + " is not a regular file");
#if MBEDTLS_VERSION_NUMBER >= 0x03000000 && defined(MBEDTLS_PSA_CRYPTO_C)
        if (psa_crypto_init() != PSA_SUCCESS) return prom::error(prom::errc::tls, "psa_crypto_init failed");
#endif
        int code = mbedtls_ctr_drbg_seed(&c.random, mbedtls_entropy_func, &c.entropy, nullptr, 0);
        if (code == 0)
            code = mbedtls_ssl_config_defaults(&c.config, server_ ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT,
                                               MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
        if (code != 0) return bad("mbedTLS cannot start", {}, code);
        mbedtls_ssl_conf_rng(&c.config, mbedtls_ctr_drbg_random, &c.random);
#if MBEDTLS_VERSION_NUMBER >= 0x03020000
        mbedtls_ssl_conf_min_tls_version(&c.config, MBEDTLS_SSL_VERSION_TLS1_2);
#else
        mbedtls_ssl_conf_min_version(&c.config, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
#endif
#if defined(MBEDTLS_SSL_RENEGOTIATION)
        mbedtls_ssl_conf_renegotiation(&c.config, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
#endif
#if defined(MBEDTLS_SSL_SESSION_TICKETS) && defined(MBEDTLS_SSL_CLI_C)
        if (!server_) mbedtls_ssl_conf_session_tickets(&c.config, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
#endif
        if (!certificate_.empty()) {
            if ((code = mbedtls_x509_crt_parse_file(&c.certificate, certificate_.c_str())) != 0)
                return bad("cannot load certificate", certificate_, code);
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
            code = mbedtls_pk_parse_keyfile(&c.key, key_.c_str(), nullptr, mbedtls_ctr_drbg_random, &c.random);
#else
            code = mbedtls_pk_parse_keyfile(&c.key, key_.c_str(), nullptr);
#endif
            if (code != 0) return bad("cannot load key", key_, code);
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
            code = mbedtls_pk_check_pair(&c.certificate.pk, &c.key, mbedtls_ctr_drbg_random, &c.random);
#else
            code = mbedtls_pk_check_pair(&c.certificate.pk, &c.key);
#endif
            if (code == 0) code = mbedtls_ssl_conf_own_cert(&c.config, &c.certificate, &c.key);
            if (code != 0) return bad("key does not match certificate", certificate_, code);
        }
        if (!ca_.empty()) {
            if ((code = mbedtls_x509_crt_parse_file(&c.ca, ca_.c_str())) != 0) return bad("cannot load CA", ca_, code);
            mbedtls_ssl_conf_ca_chain(&c.config, &c.ca, nullptr);
        }
        const bool checks = server_ ? !ca_.empty() : verify;
        mbedtls_ssl_conf_authmode(&c.config, checks ? MBEDTLS_SSL_VERIFY_REQUIRED : MBEDTLS_SSL_VERIFY_NONE);
#if defined(MBEDTLS_SSL_ALPN)
        static const char* offer[] = {"http/1.1", nullptr};
        if (!server_ && (code = mbedtls_ssl_conf_alpn_protocols(&c.config, offer)) != 0) return bad("mbedTLS cannot start", {}, code);
#endif
        return {};
    }

    const bool server_;
    const std::string certificate_, key_, ca_;
    std::mutex lock_;
    std::shared_ptr<const context> context_;
    stamps loaded_;
    double next_look_ = 0;
    bool follow_ = false;
    prom::event_handler on_event_ = nullptr;
    void* event_context_ = nullptr;
};

inline prom::owned<prom::tls_session> open(void* at, std::string_view host) noexcept { return static_cast<store*>(at)->open(host); }

}  // namespace mbedtls_detail

/// The server's side: a certificate chain and its key, PEM. With a client CA, clients must show a
/// certificate signed by it; tls_peer::subject and fingerprint identify the client to the authorizer.
///
/// lifetime outlives the servers that its hook was given to
/// threads  any; sessions on several threads at once need mbedTLS with MBEDTLS_THREADING_C
/// errors   load and reload: tls, with the file's name. After a reload that fails the old certificate stays in use
class mbedtls_server {
public:
    static prometheus_async::result<mbedtls_server> load(std::string certificate, std::string key, std::string client_ca = {}) {
        mbedtls_server made(new mbedtls_detail::store(true, std::move(certificate), std::move(key), std::move(client_ca)));
        if (auto done = made.reload(); !done) return done.why();
        return made;
    }
    prometheus_async::tls_config hook() const noexcept { return {mbedtls_detail::open, store_.get()}; }
    /// Reads the files again. New connections use the new certificate; open ones keep theirs.
    prometheus_async::result<void> reload() { return store_->load(); }
    /// From now on a new connection checks, at most once a second, whether the files have changed, and
    /// reloads them. An invalid new pair is reported once, as certificate_rejected. Call it before serving.
    void follow(prometheus_async::event_handler on_event = nullptr, void* context = nullptr) noexcept { store_->follow(on_event, context); }

private:
    explicit mbedtls_server(mbedtls_detail::store* made) noexcept : store_(made) {}
    prometheus_async::owned<mbedtls_detail::store> store_;
};

/// The client's side: verifies the server's chain against the CA file (mbedTLS does not use the system's CAs),
/// and that the certificate is for the host or IP address that is connected to.
///
/// lifetime outlives what its hook was given to
/// threads  as mbedtls_server
/// errors   tls, with the file's name
class mbedtls_client {
public:
    static prometheus_async::result<mbedtls_client> load(std::string ca, std::string certificate = {}, std::string key = {}) {
        if (ca.empty()) return prometheus_async::error(prometheus_async::errc::invalid_option, "mbedtls_client needs a CA file");
        mbedtls_client made(new mbedtls_detail::store(false, std::move(certificate), std::move(key), std::move(ca)));
        if (auto done = made.store_->load(); !done) return done.why();
        return made;
    }
    /// Encrypts without checking the peer: an attacker between the two can read and change everything.
    static prometheus_async::result<mbedtls_client> insecure_without_verification() {
        mbedtls_client made(new mbedtls_detail::store(false, {}, {}, {}));
        made.store_->verify = false;
        if (auto done = made.store_->load(); !done) return done.why();
        return made;
    }
    prometheus_async::tls_config hook() const noexcept { return {mbedtls_detail::open, store_.get()}; }

private:
    explicit mbedtls_client(mbedtls_detail::store* made) noexcept : store_(made) {}
    prometheus_async::owned<mbedtls_detail::store> store_;
};

#endif

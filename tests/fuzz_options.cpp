// Options of absurd values: each number 0, negative, NaN, infinite or the largest, each text empty, long, with NUL or not
// UTF-8. What comes is an error that says something, or an object that works: nothing crashes, hangs, or takes all memory.
// max_len: 256
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"

#include <cfloat>
#include <climits>
#include <deque>
#include <optional>
#include <cstdlib>
#include <dirent.h>
#include <sys/un.h>

namespace prom = prometheus_async;

namespace {

void require(bool good) { if (!good) std::abort(); }

struct input {
    const unsigned char* at;
    const unsigned char* end;
    std::deque<std::string> kept{};  // texts live as long as this
    unsigned octet() { return at != end ? *at++ : 0; }
    unsigned below(unsigned n) { return octet() % n; }
    double real() {
        static const double known[] = {1, 0, -1, __builtin_nan(""), -__builtin_nan(""), __builtin_inf(), -__builtin_inf(), DBL_MAX, -DBL_MAX,
                                       5e-324, 0.5, 60, 1e-9, 1e10, 9.3e18, -0.0};
        return known[below(std::size(known))];
    }
    prom::seconds seconds() { return prom::seconds(real()); }
    std::size_t size() {
        static const std::size_t known[] = {100, 0, 1, 2, 7, 4096, 65536, SIZE_MAX, SIZE_MAX - 1, SIZE_MAX / 2, SIZE_MAX / 2 + 1, SIZE_MAX - 64, 0xffffffff};
        return known[below(std::size(known))];
    }
    int whole() {
        static const int known[] = {0, 1, -1, 511, INT_MAX, INT_MIN};
        return known[below(std::size(known))];
    }
    std::string_view text() {
        static const std::string megabyte(1 << 20, 'x'), letters(300, 'y'), nul("a\0b", 3);
        const unsigned kind = octet();
        switch (kind % 16) {
        case 0: return {};
        case 1: return kind / 16 == 1 && octet() == 1 ? std::string_view(megabyte) : letters;  // rare: all else stands still for it
        case 2: return nul;
        case 3: return "\xff";
        case 4: return "a\nb\"\\";
        case 5: return "/";
        case 6: return "a b";
        case 7: return "\xc3\xa9.";
        case 8: return "[::1]:0";
        case 9: return ".json";
        default: {
            std::string made;
            for (unsigned n = kind % 16 - 9; n != 0; --n) made += static_cast<char>(octet());
            return kept.emplace_back(made);
        }
        }
    }
    std::string_view one_of(std::initializer_list<std::string_view> known) {
        const unsigned n = below(static_cast<unsigned>(known.size()) + 1);
        return n == known.size() ? text() : known.begin()[n];
    }
};

/// A list of up to `most` that lives as long as this.
template <class T>
struct few {
    std::vector<T> all{};
    few(input& in, unsigned most, auto&& make) { for (unsigned n = in.below(most + 1); n != 0; --n) all.push_back(make()); }
    operator prom::list<T>() const { return prom::list<T>(all); }
};

int events = 0;
void on_event(const prom::event& e, void*) {
    require(prom::event_name(e.kind) != nullptr && e.why.describe() != nullptr);
    ++events;
}
void judged(const prom::error& why) { require(why.describe()[0] != 0); }

double loop_time = 0, wall_time = 0;

void metrics(input& in) {
    prom::registry mine;
    prom::registry* const shown[] = {&mine};
    std::vector<prom::histogram> histograms;
    for (unsigned n = 1 + in.below(4); n != 0; --n) {
        const few<prom::label> labels(in, 3, [&] { return prom::label{prom::utf8(in.text()), in.text()}; });
        const few<double> buckets(in, 5, [&] { return in.real(); });
        const few<std::string_view> states(in, 3, [&] { return in.text(); });
        prom::metric_options o{.unit = in.text(), .name_space = in.text(), .subsystem = in.text(), .labels = labels, .max_series = in.size()};
        if (in.octet() & 1) o.buckets = buckets;
        if (in.octet() & 1) o.states = states;
        const std::string_view plain = in.text(), help = in.text();
        const prom::any_name name = in.octet() & 1 ? prom::any_name(prom::utf8(plain)) : prom::any_name(plain);
        const auto used = [&](auto made, auto use) {
            if (made) use(*made);
            else judged(made.why());
        };
        prom::exemplar e{.labels = labels, .timestamp = in.real()};
        switch (in.below(9)) {
        case 0: used(mine.try_counter(name, help, o), [&](auto& c) { c.inc(), c.inc(in.real()), c.inc(1, e), c.reset(); }); break;
        case 1: used(mine.try_gauge(name, help, o), [&](auto& g) { g.set(in.real()), g.inc(in.real()), g.dec(in.real()); }); break;
        case 2: used(mine.try_histogram(name, help, o), [&](auto& h) { h.observe(in.real()), h.observe(in.real(), e), h.reset(); }); break;
        case 3: used(mine.try_summary(name, help, o), [&](auto& s) { s.observe(in.real()); }); break;
        case 4: used(mine.try_state_set(name, help, o), [&](auto& s) { s.set(in.text()); }); break;
        case 5: used(mine.try_info(name, help, o), [&](auto& i) { i.set(labels); }); break;
        case 6: {
            const few<prom::any_name> names(in, 4, [&] { return prom::any_name(prom::utf8(in.text())); });
            used(mine.try_family<prom::counter>(name, help, names.all, o), [&](auto& f) {
                std::vector<std::string_view> values;
                for (std::size_t i = 0; i != names.all.size(); ++i) values.push_back(in.text());
                f(prom::list<std::string_view>(values)).inc(in.real());
                f.remove_matching(labels);
                f.clear();
            });
            break;
        }
        case 7: {
            prom::metric_options windowed = o;
            windowed.window = in.real();
            used(mine.try_min_max_gauge(name, help, windowed), [&](auto& m) { m.observe(in.real()); });
            break;
        }
        default:
            mine.add_collector([&](prom::sample_sink& to) {
                to.family(static_cast<prom::metric_type>(in.below(9)), name, help, o.unit);
                const prom::sample_details more{.timestamp = in.real(), .created = in.real(), .example = e};
                to.sample(in.real(), labels, more);
                const double b[] = {in.real(), in.real()};
                to.histogram({{b[0], in.size()}, {b[1], in.size()}}, in.real(), labels, more);
                to.summary(in.size(), in.real(), {{in.real(), in.real()}}, labels, more);
                to.states({{in.text(), true}, {in.text(), false}}, labels);
            }).remove();
        }
    }
    const few<std::string_view> only(in, 4, [&] { return in.text(); });
    prom::page_options o{.as = static_cast<prom::format>(in.below(3)), .names = static_cast<prom::escaping>(in.below(4)), .registries = shown,
                         .created = static_cast<prom::created_series>(in.below(3)), .on_collector_error = static_cast<prom::collector_errors>(in.below(2)),
                         .collector_bytes = in.size(), .on_event = on_event};
    if (in.octet() & 1) o.only = only;
    prom::cursor pull;
    pull.start(o);
    char window[4096];
    const std::size_t wide = 1 + 16 * in.octet();
    for (prom::pulled got{0, prom::pull::more}; got.what == prom::pull::more;) got = pull.next(std::span(window).first(wide));
    const prom::stats_page page = prom::server_stats({.accept = in.text(), .registries = shown, .only = only, .created = o.created});
    require(page.status == 200);
    const auto count = in.below(40);
    require(prom::linear_buckets(in.real(), in.real(), count).size() == count);
    require(prom::exponential_buckets(in.real(), in.real(), count).size() == count);
}

/// A directory that only this process writes in.
const std::string& own_directory() {
    static const std::string made = [] {
        char path[] = "/tmp/fuzz_options.XXXXXX";
        require(::mkdtemp(path) != nullptr);
        static std::string kept = path;
        std::atexit([] {
            if (DIR* d = ::opendir(kept.c_str())) {
                while (const dirent* f = ::readdir(d)) if (f->d_name[0] != '.') ::unlink((kept + "/" + f->d_name).c_str());
                ::closedir(d);
            }
            ::rmdir(kept.c_str());
        });
        return kept;
    }();
    return made;
}

struct visitor {
    int fd = -1;
    explicit visitor(const std::string& abstract) : fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
        sockaddr_un to{};
        to.sun_family = AF_UNIX;
        std::memcpy(to.sun_path + 1, abstract.data(), abstract.size());
        if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + abstract.size())) != 0) return;
        static const char asks[] = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\nGET /m?name[]=x HTTP/1.1\r\nHost: b\r\nAuthorization: Basic YTpi\r\n\r\n";
        static_cast<void>(!::send(fd, asks, sizeof asks - 1, MSG_NOSIGNAL));
    }
    visitor(const visitor&) = delete;
    ~visitor() { ::close(fd); }
};

void servers(input& in) {
    static unsigned number = 0;
    const std::string mine = "fuzz_options-" + std::to_string(::getpid()) + "-" + std::to_string(++number);
    const std::string here = "unix:@" + mine;
    prom::registry reg;
    prom::registry* const shown[] = {&reg};
    reg.make_gauge("g", std::string(3000, 'h'));

    const few<prom::label> labels(in, 3, [&] { return prom::label{prom::utf8(in.text()), in.text()}; });
    const few<std::string_view> texts(in, 3, [&] { return in.text(); });
    const few<prom::credential> credentials(in, 2, [&] { return in.octet() & 1 ? prom::basic(in.text(), in.text()) : prom::bearer(in.text()); });
    const few<prom::route> routes(in, 3, [&] { return prom::route{.path = in.one_of({"/metrics", "/m"}), .registries = shown, .text = in.text(), .content_type = in.text()}; });
    const few<prom::format> formats(in, 3, [&] { return static_cast<prom::format>(in.below(3)); });

    prom::event_loop loop{{.time = {[] { return loop_time; }, [] { return wall_time; }}, .on_event = on_event, .closing_budget = in.seconds()}};
    alignas(prom::consul_agent) unsigned char space[sizeof(prom::consul_agent)];
    prom::consul_agent* consul = nullptr;
    std::optional<prom::file_sd> file;
    prom::server_options o{.addr = here, .allowed_hosts = texts, .on_event = on_event};
    const std::string path = own_directory() + "/" + [&] {
        std::string name(in.one_of({"a.json", "b"}));
        for (char& c : name) if (c == '/') c = '_';
        return name;
    }();
    const unsigned what = in.octet();
    if (what & 1) {
        // No host names: they would be looked up.
        static const std::string long_agent(70000, '1'), with_nul("127.0.0.1\0:1", 12);
        const std::string_view agents[] = {"unix:///nonexistent/agent", "127.0.0.1:9", "127.0.0.1:99999", "https://127.0.0.1", ":", "http://", with_nul, long_agent, "unix://"};
        try {
            consul = ::new (static_cast<void*>(space)) prom::consul_agent({.name = in.text(), .service_id = in.text(), .tags = texts, .token = in.text(),
                .agent = agents[in.below(std::size(agents))], .meta = labels, .check = static_cast<prom::consul_check>(in.below(4)), .check_path = in.text(),
                .check_headers = labels, .interval = in.seconds(), .timeout = in.seconds(), .ttl = in.seconds(), .deregister_critical_after = in.seconds(),
                .status = in.text(), .advertise = in.one_of({"127.0.0.1"}), .in_namespace = in.text(), .on_failure = static_cast<prom::on_failure>(in.below(3)),
                .deadline = in.seconds(), .budget = in.seconds(), .watch = in.seconds(), .metrics = &reg, .on_event = on_event});
            o.service_discovery = consul;
        } catch (const prom::failure& f) { judged(f.why()); }
    } else if (what & 2) {
        file.emplace(prom::file_sd_options{.path = path, .labels = labels, .advertise = in.text(), .keep_file = (what & 4) != 0});
        o.service_discovery = &*file;
    }
    if (what & 8) o.limits = {.request_line = in.size(), .header_bytes = in.size(), .header_fields = in.size(), .connections = in.size(), .answers = in.size(),
                              .requests_per_connection = in.size(), .handshakes = in.size(), .names = in.size(), .header = in.seconds(), .handshake = in.seconds(),
                              .idle = in.seconds(), .stall = in.seconds(), .response = in.seconds(), .reader_rate = in.size(), .lingering = in.seconds(), .backlog = in.whole()};
    if (what & 16) o.credentials = credentials;
    if (what & 32) o.routes = routes;
    if (what & 64) {
        o.formats = formats;
        o.advertise = in.one_of({"127.0.0.1"});
        o.created = static_cast<prom::created_series>(in.below(3));
        o.process_start_header = true;
    }
    const std::string odd = "unix:@" + std::string(in.text());
    if (what & 128) {
        const unsigned other = in.below(4);
        if (other == 0) o.addr = odd;
        else if (other == 1) o.listen_fd = in.whole() > 2 ? INT_MAX : -2;
        else if (other == 2) o.addr = in.one_of({"127.0.0.1", "::1", "unix:", "1.2.3.4.5", "127.0.0.1\x01"}).starts_with("unix:") ? "unix:" : "127.0.0.1";
    }

    std::optional<prom::result<prom::metrics_http_server>> server;
    {
        loop.spawn([](std::optional<prom::result<prom::metrics_http_server>>& to, prom::task<prom::result<prom::metrics_http_server>> starting) -> prom::task<void> {
            try { to.emplace(co_await std::move(starting)); } catch (const prom::failure& f) { judged(f.why()); }
        }(server, prom::start_http_server(loop, o)));
        {
            const visitor a(mine), b(mine);
            for (int i = 0; i != 3; ++i) loop.poll(0);
            loop.spawn([](prom::event_loop& l, prom::seconds span) -> prom::task<void> { co_await l.sleep(span); }(loop, in.seconds()));
            const double jump = in.real();
            if (prom::detail::is_finite(jump) && jump > 0 && jump < 1e12) loop_time += jump;
            wall_time = in.real();
            const visitor c(mine);
            for (int i = 0; i != 4; ++i) loop.poll(0);
            require(!(loop.next_deadline() < loop_time - 1e13));
            char out[8192];
            static_cast<void>(!::recv(c.fd, out, sizeof out, MSG_DONTWAIT));
        }
        if (server && !*server) judged(server->why());
        if (server && *server && (what & 4)) {
            loop.spawn([](prom::metrics_http_server s) -> prom::task<void> { static_cast<void>(co_await s.close()); }(*std::move(*server)));
            for (int i = 0; i != 3; ++i) loop.poll(0);
        }
    }
    server.reset();
    if (consul) consul->~consul_agent();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
    input in{data, data + size};
    try {
        if (in.octet() & 1) metrics(in);
        else servers(in);
    } catch (const prom::failure& f) { judged(f.why()); }
    return 0;
}

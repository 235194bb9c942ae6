// Rooms [22], [42], [46], [47].
// Whoever chooses a label value, a name or a page: what is equal, how far a look-up goes, and what one pull does.
#define PROMETHEUS_ASYNC_NO_NETWORK 1

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/types.h>

// The source of all seeds, as a test wants it.
namespace fixed {
static int asked = 0;
using ::aligned_alloc, ::realloc;
static bool fails = false, maps = true;
static void* mmap(void* at, std::size_t n, int protection, int flags, int fd, ::off_t from) {
    return maps ? ::mmap(at, n, protection, flags, fd, from) : MAP_FAILED;
}
[[maybe_unused]] static unsigned char given[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, by_kernel[16] = {77};
#if defined(PROMETHEUS_ASYNC_SMALL_LIBC)
static int open(const char*, int) { return ++asked, fails ? -1 : 1 << 20; }
static ssize_t read(int, void* to, std::size_t n) {
    std::memcpy(to, given, n);
    return static_cast<ssize_t>(n);
}
static int close(int) { return 0; }
#elif defined(__linux__)
static ssize_t getrandom(void* to, std::size_t n, unsigned) {
    ++asked;
    if (fails) return -1;
    std::memcpy(to, given, n);
    return static_cast<ssize_t>(n);
}
static unsigned long getauxval(unsigned long) { return reinterpret_cast<unsigned long>(by_kernel); }
#else
static void arc4random_buf(void* to, std::size_t n) {
    ++asked;
    std::memcpy(to, given, n);
}
#endif
}  // namespace fixed
#define PROMETHEUS_ASYNC_DETAIL_SYS ::fixed
static long steps = 0;
static void (*at_step)() = nullptr;
static long since_release = 0, most_held = 0;  // steps since the lock was given back, and the most of them that were done until then
[[maybe_unused]] static thread_local int locks_held = 0;  // by this thread
static std::atomic<int> unlocked_twice = 0;
[[maybe_unused]] static void unlocked() {
    most_held = std::max(most_held, since_release);
    since_release = 0;
    if (--locks_held < 0) locks_held = 0, ++unlocked_twice;
}
[[maybe_unused]] static int locked_by(int result) {
    if (result == 0) ++locks_held;
    return result;
}
#define pthread_mutex_lock(m) locked_by(pthread_mutex_lock(m))
#define pthread_mutex_trylock(m) locked_by(pthread_mutex_trylock(m))
#define pthread_mutex_unlock(m) (unlocked(), pthread_mutex_unlock(m))
#define PROMETHEUS_ASYNC_DETAIL_STEP() static_cast<void>(++steps, ++since_release, at_step ? at_step() : void())
#define PROMETHEUS_ASYNC_IMPLEMENTATION
#include "prometheus_async.hpp"
#include <doctest/doctest.h>

namespace prom = prometheus_async;
using namespace prom::detail;

static prom::family<prom::counter, "l"> before_main{"before_main", "h"};
static prom::counter made_before_main = before_main("value");

static std::string page_of(prom::registry& r, prom::page_options options = {}) {
    prom::registry* const shown[] = {&r};
    options.registries = shown;
    return prom::expose(options);
}
static std::size_t lines_with(const std::string& page, const std::string& begin) {
    std::size_t n = 0;
    for (std::size_t at = 0; at < page.size(); at = page.find('\n', at) + 1) n += page.compare(at, begin.size(), begin) == 0;
    return n;
}

/// The n-th text of 16 printable octets.
static std::string printable(std::uint64_t n) {
    std::string s = "/tenant/00000000";
    for (std::size_t i = 0; i != 8; ++i, n /= 64) s[8 + i] = static_cast<char>('0' + n % 64);
    return s;
}

TEST_CASE("the secret is taken once, before main if need be, and each table has a seed of its own") {
    CHECK(fixed::asked == 1);
    CHECK(std::memcmp(state.secret, fixed::given, 16) == 0);
    prom::registry mine;
    static constexpr std::string_view label_names[] = {"l"};
    const prom::label_names labels(label_names);
    std::set<std::uint64_t> seeds;
    for (int i = 0; i != 100; ++i) {
        const std::string name = "f" + std::to_string(i);
        const declared f = declare_or_raise({prom::metric_type::counter, name, "h", {.registry = &mine}, &labels});
        seeds.insert(f.face->seed.low);
        seeds.insert(f.face->seed.high);
    }
    CHECK(seeds.size() == 200);
    CHECK(fixed::asked == 1);
}
#if PROMETHEUS_ASYNC_SMALL_LIBC
TEST_CASE("without /dev/urandom the secret is the time and two addresses") {
    std::uint64_t secret[2] = {};
    fixed::fails = true;
    take_secret(secret);
    fixed::fails = false;
    CHECK(secret[0] != 0);
    CHECK(secret[1] != 0);
    CHECK(std::memcmp(secret, fixed::given, 16) != 0);
}
#elif defined(__linux__)
TEST_CASE("without getrandom the secret is what the kernel gave the process") {
    std::uint64_t secret[2] = {};
    fixed::fails = true;
    take_secret(secret);
    fixed::fails = false;
    CHECK(std::memcmp(secret, fixed::by_kernel, 16) == 0);
}
#endif

TEST_CASE("fingerprints are SipHash-2-4 of 128 bits") {
    std::string text;
    std::uint64_t key[2];
    unsigned char octets[16];
    for (unsigned char i = 0; i != 16; ++i) octets[i] = i;
    for (int i = 0; i != 2; ++i) key[i] = load_little<std::uint64_t>(reinterpret_cast<const char*>(octets) + 8 * i);
    CHECK(siphash(key, "") == fingerprint{0xe6a825ba047f81a3, 0x930255c71472f66d});  // the authors' vectors
    text.push_back(0);
    CHECK(siphash(key, text) == fingerprint{0x44af996bd8c187da, 0x45fc229b11597634});
    for (char i = 1; i != 15; ++i) text.push_back(i);
    CHECK(siphash(key, text) == fingerprint{0x11a8b03399e99354, 0xd9c3cf970fec087e});
}

/// Pairs of values that were one by the hash of earlier versions, whose constants are public.
static std::vector<std::pair<std::string, std::string>> once_equal() {
    std::vector<std::pair<std::string, std::string>> pairs = {{"a", std::string("c\0\0", 3)}};
    const auto word = [](const std::string& s, std::size_t at) { return load_little<std::uint64_t>(s.data() + at); };
    const std::string first = "/tenant/0123abcd";
    for (std::uint64_t n = 0; pairs.size() != 4; ++n) {
        std::string second = printable(n).substr(8) + "........";
        const std::uint64_t wanted = mix(16 ^ word(first, 0), 0x9e3779b97f4a7c15) ^ word(first, 8) ^ mix(16 ^ word(second, 0), 0x9e3779b97f4a7c15);
        bool good = true;
        for (std::size_t i = 0; i != 8; ++i) {
            second[8 + i] = static_cast<char>(wanted >> (8 * i));
            good = good && second[8 + i] > ' ' && second[8 + i] < 127 && second[8 + i] != '"' && second[8 + i] != '\\';
        }
        if (good) pairs.emplace_back(first, second);
    }
    return pairs;
}

TEST_CASE("a hash stands for nothing: values and names that were once equal by it are two") {
    for (const auto& [one, other] : once_equal()) {
        CAPTURE(other);
        prom::registry collected;
        const auto handle = collected.add_collector([&](prom::sample_sink& to) {
            to.family(prom::metric_type::gauge, "g", "h");
            to.sample(1, {{"l", one}});
            to.sample(2, {{"l", other}});
            to.family(prom::metric_type::gauge, prom::utf8(one), "h");
            to.family(prom::metric_type::gauge, prom::utf8(other), "h");
            to.family(prom::metric_type::info, "i", "h");
            to.sample(1, {{prom::utf8(one), "v"}});
            to.sample(1, {{prom::utf8(other), "v"}});
        });
        const std::string page = page_of(collected, {.names = prom::escaping::allow_utf8});
        CHECK(lines_with(page, "g{") == 2);
        CHECK(lines_with(page, "# TYPE") == 4);
        CHECK(lines_with(page, "i_info{") == 2);

        prom::registry first, second;
        prom::registry* const both[] = {&first, &second};
        prom::family<prom::counter, "l">{"c", "h", {.registry = &first}}(one).inc();
        const prom::family<prom::counter, "l"> more{"c", "h", {.registry = &second}};
        more(one).inc();
        more(other).inc();
        first.make_info("j", "h").set({{"l", one}, {"m", other}});
        second.make_info("j", "h").set({{"l", other}, {"m", one}});
        const std::string merged = prom::expose({.registries = both});
        CHECK(lines_with(merged, "c_total{") == 2);
        CHECK(lines_with(merged, "j_info{") == 2);
    }
}

TEST_CASE("what says the same is one, whatever the order of its labels") {
    prom::registry first, second;
    prom::registry* const both[] = {&first, &second};
    first.make_info("j", "h").set({{"a", "1"}, {"b", "2"}, {"c", ""}});
    second.make_info("j", "h").set({{"b", "2"}, {"a", "1"}});
    CHECK(lines_with(prom::expose({.registries = both}), "j_info{") == 1);
    for (const bool twice : {false, true}) {
        const auto handle = second.add_collector([&](prom::sample_sink& to) {
            to.family(prom::metric_type::gauge, "g", "h");
            to.sample(1, {{"a", "x"}, {"b", "yz"}});
            to.sample(1, {{"a", "xy"}, {"b", "z"}});
            to.sample(1, {{"ax", ""}, {"b", "yz"}});
            if (twice) to.sample(1, {{"c", ""}, {"b", "yz"}, {"a", "x"}});
        });
        CHECK(lines_with(page_of(second), "g{") == (twice ? 0 : 3));
    }
}

// ---- tables ----

/// How far from its place each entry of a family's table stands, at most; and that each is where a look-up finds it.
static std::size_t longest_way(const family_state& f) {
    const auto* entries = reinterpret_cast<const std::uintptr_t*>(f.face->table & ~std::uintptr_t{63});
    const std::size_t size = std::size_t{1} << (f.face->table & 63);
    std::size_t longest = 0, found = 0;
    for (std::size_t i = 0; i != size; ++i) {
        if (entries[i] == 0) continue;
        ++found;
        const std::size_t way = (i - static_cast<std::size_t>(record_of(entries[i])->hash)) & (size - 1);
        longest = way > longest ? way : longest;
    }
    CHECK(found == f.living);
    return longest;
}
static std::size_t log2_of(const family_state& f) { return f.face->table & 63; }

TEST_CASE("values that meet in one place of a table are found within the bound, and so is what is not there") {
    for (const std::size_t size : {8u, 12u, 16u, 40u}) {
        CAPTURE(size);
        prom::registry mine;
        static constexpr std::string_view label_names[] = {"l"};
    const prom::label_names labels(label_names);
        const declared f = declare_or_raise({prom::metric_type::gauge, "f", "h", {.registry = &mine}, &labels});
        const hash_seed known = f.face->seed;  // which is not known outside
        std::vector<std::string> values;
        for (std::uint64_t n = 0; values.size() != 300; ++n) {
            std::string value = printable(n);
            value = size < 16 ? value.substr(16 - size) : std::string(size - 16, 'x') + value;
            const std::string_view view = value;
            const key_pair key = make_key(view);
            if ((hash_values(known, &key, &view, 1) & 1023) == 5) values.push_back(value);
        }
        const family_state& state_of_f = *f.face->family;
        std::set<std::uint64_t> ids;
        for (const std::string& v : values) {
            const std::string_view view = v;
            ids.insert(make_child(f, &view, 1).id);
        }
        CHECK(ids.size() == values.size());
        CHECK(longest_way(state_of_f) < most_probes(log2_of(state_of_f)));
        CHECK(log2_of(state_of_f) == 10);  // not by growing
        CHECK(f.face->seed.low != known.low);
        for (const std::string& v : values) {
            const std::string_view view = v;
            const key_pair key = make_key(view);
            std::uint32_t place = 0;
            const found_record s = find_anywhere(*f.face, f.id, &key, &view, 1, place);
            REQUIRE(s.rec != nullptr);
            CHECK(ids.count(s.id) == 1);
            CHECK(remove_child(f, &view, 1));
            CHECK(find_anywhere(*f.face, f.id, &key, &view, 1, place).rec == nullptr);
        }
        CHECK(count_children(f) == 0);
    }
}

TEST_CASE("plain values stand near their places, whatever they differ in") {
    prom::registry mine;
    const prom::family<prom::gauge, "a", "b"> f{"f", "h", {.registry = &mine}};
    std::size_t longest = 0;
    const auto fill = [&](auto&& value) {
        f.clear();
        for (std::uint64_t n = 0; n != 3000; ++n) f(value(n), "b").set(1);
        longest = std::max(longest, longest_way(*registry_state::peek(mine)->find("f")));
    };
    fill([](std::uint64_t n) { return n; });
    fill([](std::uint64_t n) { return n << 40; });
    fill([](std::uint64_t n) { return std::string(static_cast<std::size_t>(n), 'x'); });
    fill([](std::uint64_t n) { return printable(n); });
    fill([](std::uint64_t n) { return printable(n << 30).substr(4); });
    fill([](std::uint64_t n) { return std::string(100, 'y') + printable(n) + std::string(100, 'y'); });
    CHECK(longest < 64);  // chance: 40 or so
}

TEST_CASE("a page does not depend on the seed") {
    std::string pages[3];
    for (std::uint64_t n = 0; n != 3; ++n) {
        state.secret[0] ^= n * 0x123456789abcdef;
        prom::registry mine;
        const prom::family<prom::counter, "l"> f{"f", "h", {.registry = &mine}};
        for (int i = 0; i != 500; ++i) f(i * 77).inc();
        for (int i = 0; i < 500; i += 3) f.remove(i * 77);
        for (int i = 0; i != 9; ++i) f(i * 77).inc();
        pages[n] = page_of(mine);
    }
    CHECK(pages[0] == pages[1]);
    CHECK(pages[0] == pages[2]);
}

// ---- pulls ----

struct pulled_page {
    std::string text{};
    long pulls = 0, most_steps = 0, all_steps = 0;
};
static pulled_page pull_all(const prom::page_options& options) {
    prom::cursor c;
    c.start(options);
    static char window[16384];
    pulled_page page;
    for (prom::pulled got{0, prom::pull::more}; got.what == prom::pull::more; ++page.pulls) {
        steps = 0;
        got = c.next(window);
        page.text.append(window, got.bytes);
        page.most_steps = std::max(page.most_steps, steps);
        page.all_steps += steps;
    }
    return page;
}

TEST_CASE("a filter costs a family few comparisons, however many names it has, and no pull holds the lock for all families") {
    prom::registry mine;
    prom::registry* const shown[] = {&mine};
    constexpr int families = 4000;
    for (int i = 0; i != families; ++i) {
        const std::string name = "family" + std::to_string(i);
        if (i % 3 == 0) mine.make_counter(name, "h");
        else if (i % 3 == 1) mine.make_gauge(prom::utf8("a." + name), "h");
        else mine.make_summary(name, "h");
    }
    for (const bool near : {false, true}) {
        CAPTURE(near);
        std::vector<std::string> names;
        for (int i = 0; i != 255; ++i)
            names.push_back(near ? "family" + std::to_string(15 * i) + (i % 2 ? "_max" : "_totals") : std::string("no such name ") + std::to_string(i));
        names.push_back("family3999");
        std::vector<std::string_view> only(names.begin(), names.end());
        const pulled_page page = pull_all({.registries = shown, .only = prom::list<std::string_view>(only)});
        CHECK(page.text == "# HELP family3999_total h\n# TYPE family3999_total counter\nfamily3999_total 0\n");
        CHECK(page.all_steps < families * (1 + 2 * 5 * 9));
        CHECK(page.most_steps < 512 * (1 + 2 * 5 * 9));
        CHECK(page.pulls > 4);
    }
    for (const char* const o : {"family3", "family3_total", "family3_created", "a.family1", "a_family1", "family2_sum", "family2_count", "family2"}) {
        const std::string_view only[] = {"x", o, "zz"};
        CHECK_MESSAGE(lines_with(pull_all({.registries = shown, .only = only}).text, "# TYPE") == 1, o);
    }
    for (const char* const o : {"family3_sum", "family", "a", "family2_total", "family1", "_total", ""}) {
        const std::string_view only[] = {o};
        CHECK_MESSAGE(pull_all({.registries = shown, .only = only}).text == "", o);
    }
}

TEST_CASE("a pull does only so much for series that are not shown: gone, twice, or in registries without number") {
    const auto bounded = [](const pulled_page& page, long most) {
        CHECK(page.most_steps <= most);
        return page.text;
    };
    prom::registry first, second;
    const prom::family<prom::gauge, "l"> f{"f", "h", {.registry = &first}}, g{"f", "h", {.registry = &second}};
    for (int i = 0; i != 10000; ++i) f(i).set(i), g(i).set(i);
    prom::registry* const both[] = {&first, &second};
    const std::string merged = bounded(pull_all({.registries = both}), 1100 + 3 * 1024);  // each that is looked up among those shown
    CHECK(lines_with(merged, "f{") == 10000);
    for (int i = 0; i != 10000; ++i) if (i % 2500 != 7) f.remove(i);
    const family_state& state_of_f = *registry_state::peek(first)->find("f");
    for (int i = 10000; i != 13000; ++i) f(i).set(i);  // so that nothing is compacted while these go
    prom::cursor c;
    prom::registry* const one[] = {&first};
    c.start({.registries = one});
    for (int i = 13000; i != 25000; ++i) f(i).set(i);
    for (int i = 10000; i != 13000; ++i) f.remove(i);
    CHECK(state_of_f.lines.size > 14000);
    std::string text;
    char window[16384];
    for (prom::pulled got{0, prom::pull::more}; got.what == prom::pull::more;) {
        steps = 0;
        got = c.next(window);
        text.append(window, got.bytes);
        CHECK(steps <= 4200);
    }
    CHECK(lines_with(text, "f{") == 4);

    std::vector<std::unique_ptr<prom::registry>> many;
    std::vector<prom::registry*> all;
    for (int i = 0; i != 1200; ++i) {
        all.push_back(many.emplace_back(new prom::registry).get());
        all.back()->make_gauge("g" + std::to_string(i % 900), "h");
    }
    const pulled_page page = pull_all({.registries = prom::list<prom::registry*>(all)});
    CHECK(page.pulls >= 1200);
    CHECK(lines_with(page.text, "g") == 900);
}

// ---- growth ----

TEST_CASE("what a page has shown is known, whatever was forgotten in between, and one more costs a few steps among any number") {
    shown_texts shown;
    std::vector<std::string> all;  // in the order in which they came
    std::set<std::string> known;
    std::uint32_t random = 1;
    const auto below = [&](std::size_t n) { return (random = random * 1664525 + 1013904223) / 65536 % n; };
    for (int i = 0; i != 20000; ++i) {
        const std::string text = std::to_string(below(9000));
        const bool fresh = known.insert(text).second;
        REQUIRE(shown.add(text) == fresh);
        if (fresh) all.push_back(text);
        if (below(200) == 0) {
            const std::size_t to = below(20) == 0 ? 0 : all.size() - below(all.size() < 300 ? all.size() + 1 : 300);
            shown.cut(to);
            for (; all.size() != to; all.pop_back()) known.erase(all.back());
        }
        REQUIRE(shown.size() == all.size());
    }
    for (const std::string& text : all) CHECK_FALSE(shown.add(text));
    long most = 0;
    shown_texts many;
    for (int i = 0; i != 100000; ++i) {
        steps = 0;
        CHECK(many.add(std::to_string(i)));
        most = std::max(most, steps);
    }
    CHECK(most < 40);
    steps = 0;
    for (int i = 0; i != 100000; ++i) CHECK_FALSE(many.add(std::to_string(i)));
    CHECK(steps < 300000);
}

TEST_CASE("what a page has shown is known, also if the first series with labels of the process is made meanwhile") {
    state.seeded = false;  // as in a process that has none
    state.secret[0] = state.secret[1] = 0;
    prom::registry mine, other;
    int calls = 0;
    const auto twice = [&](prom::sample_sink& to) {
        to.family(prom::metric_type::gauge, "twice", "");
        to.sample(1);
        if (++calls == 1) other.make_family<prom::counter>("c", "", {"l"})({"v"}).inc();
    };
    const auto one = mine.add_collector(twice), two = mine.add_collector(twice);
    CHECK(lines_with(page_of(mine), "# TYPE twice ") == 1);
    CHECK(calls == 2);
    CHECK(state.seeded);
    CHECK(std::memcmp(state.secret, fixed::given, 16) == 0);
}

#if !PROMETHEUS_ASYNC_NO_THREADS
TEST_CASE("a page does not look through all threads for each line, in whatever order places were used again") {
    constexpr int n = 4000, others = 40;
    prom::registry mine, other;
    const prom::family<prom::counter, "i"> many{"many", "", {.registry = &mine}};
    const prom::counter touched = other.make_counter("c", "");
    std::vector<int> order(n);
    for (int i = 0; i != n; ++i) order[static_cast<std::size_t>(i * 1009 % n)] = i, many(i).inc();
    for (const int i : order) many.remove(i);
    for (int i = 0; i != 300; ++i) {  // what was removed is used again
        other.make_counter("d", "");
        other.unregister("d_total");
    }
    for (int i = 0; i != n; ++i) many(i).inc();
    std::atomic<int> ready = 0;
    std::atomic<bool> stop = false;
    std::vector<std::thread> threads;
    for (int i = 0; i != others; ++i)
        threads.emplace_back([&] {
            touched.inc();
            ++ready;
            ready.notify_all();
            stop.wait(false);
        });
    for (int now = ready; now != others; now = ready) ready.wait(now);
    steps = 0;
    const std::string page = page_of(mine);
    const long once = steps;
    stop = true;
    stop.notify_all();
    for (auto& t : threads) t.join();
    CHECK(lines_with(page, "many_total{") == n);
    CHECK(once < 4 * n);
}
#endif

TEST_CASE("a page of two registries that have a family lets others have the lock, however many series there are") {
    prom::registry one, other;
    const prom::family<prom::counter, "l"> mine{"f", "h", {.registry = &one}}, theirs{"f", "h", {.registry = &other}};
    for (int i = 0; i != 20000; ++i) {
        mine(i).inc();
        theirs(i + 10000).inc();
    }
    prom::registry* const both[] = {&one, &other};
    since_release = most_held = 0;
    const std::string page = prom::expose({.registries = both});
    CHECK(most_held < 5000);
    CHECK(lines_with(page, "f_total{") == 30000);
}

TEST_CASE("what one more name costs does not grow with the names that are there") {
    prom::registry mine;
    constexpr int families = 3000;
    long most = 0;
    const auto measured = [&](auto&& work) {
        steps = 0;
        work();
        most = std::max(most, steps);
    };
    for (const char* const begin : {"a.", "U__a_2d_", "U__b_", "plain_"})
        for (int i = 0; i != families; ++i) {
            const std::string name = begin + std::to_string(i);
            measured([&] { CHECK(mine.try_gauge(prom::utf8(name), "h")); });
        }
    CHECK(most < 10 * 15);
    // Names that only an escaping makes one are found among all of them.
    CHECK_FALSE(mine.try_gauge("U__a_2e_7", "h"));
    CHECK_FALSE(mine.try_counter("U__a_2e_7", "h"));
    CHECK_FALSE(mine.try_gauge(prom::utf8("a-7"), "h"));
    most = 0;
    for (int i = 0; i != families; ++i)
        for (const char* const begin : {"U__b_", "a.", "plain_", "U__a_2d_"})
            measured([&] { CHECK(mine.unregister(begin + std::to_string(i))); });
    CHECK(most < 10 * 15);
    CHECK(mine.try_gauge("U__a_2e_7", "h"));  // whose name was taken
}

TEST_CASE("states and labels without number are compared as sorting does") {
    constexpr int count = 3000;
    prom::registry mine;
    std::vector<std::string> names;
    for (int i = 0; i != count; ++i) names.push_back("n" + std::to_string(i * 7919 % count));
    std::vector<std::string_view> states(names.begin(), names.end());
    const auto limit = [](long most) { CHECK(std::exchange(steps, 0) < most); };
    steps = 0;
    const prom::state_set set = mine.make_state_set("s", "h", {.states = prom::list<std::string_view>(states)});
    limit(count * 30);
    for (const std::string& n : names) CHECK(set.set(n));
    limit(count * 15);
    CHECK_FALSE(set.set("n"));
    CHECK_FALSE(set.set("zz"));
    CHECK(page_of(mine).find("s{s=\"" + names.back() + "\"} 1\n") != std::string::npos);
    states.push_back(names[1234]);
    CHECK_FALSE(mine.try_state_set("s2", "h", {.states = prom::list<std::string_view>(states)}));

    std::vector<prom::label> labels;
    for (const std::string& n : names) labels.push_back({prom::utf8(n), "v"});
    const prom::info facts = mine.make_info("i", "h");
    steps = 0;
    facts.set(prom::list<prom::label>(labels));
    limit(2 * count * 30);
    CHECK(mine.try_gauge("g", "h", {.labels = prom::list<prom::label>(labels)}));
    limit(2 * count * 30);
    labels.push_back({prom::utf8(names[77]), "v"});
    CHECK_FALSE(mine.try_gauge("g2", "h", {.labels = prom::list<prom::label>(labels)}));
}

#if !PROMETHEUS_ASYNC_NO_THREADS
namespace let_in {
static std::thread other;
static long when = 0;
/// Amid the work another thread begins to wait for the lock, which is held here.
static void in() {
    if (steps != 1000) return;
    const unsigned waited = state.waiting;
    other = std::thread([] {
        const global_lock lock;
        when = steps;
    });
    while (__atomic_load_n(&state.waiting, __ATOMIC_RELAXED) == waited) std::this_thread::yield();
}
}  // namespace let_in

TEST_CASE("removing series without number lets those in who wait for the lock") {
    static constexpr int many = 20000;
    const auto expected = [](auto&& work) {
        steps = 0;
        at_step = let_in::in;
        work();
        at_step = nullptr;
        let_in::other.join();
        CHECK(steps >= many);
        CHECK(let_in::when < many / 2);
        CHECK(let_in::when >= 1000);
    };
    std::unique_ptr<prom::registry> mine(new prom::registry);
    const auto filled = [&] {
        const prom::family<prom::gauge, "l", "m"> f{"f", "h", {.registry = mine.get()}};
        for (int i = 0; i != many; ++i) f(i, i % 2).set(i);
        return f;
    };
    expected([f = filled()] { f.clear(); });
    CHECK(filled().size() == many);
    expected([f = filled()] { CHECK(f.remove_matching({{"m", "1"}}) == many / 2); });
    CHECK(filled().size() == many);
    expected([&] { CHECK(mine->unregister("f")); });
    CHECK(page_of(*mine).empty());
    static_cast<void>(filled());
    expected([&] { mine.reset(); });
}

TEST_CASE("series that are made while others are removed stay, and a family may go meanwhile") {
    static std::unique_ptr<prom::registry> mine;
    mine.reset(new prom::registry);
    static bool goes;
    for (const bool going : {false, true}) {
        goes = going;
        static const auto act = [](const prom::family<prom::gauge, "l">& f) {
            if (goes) return static_cast<void>(mine->unregister("f"));
            for (int i = 5000; i != 5100; ++i) f(i).set(1);
            for (int i = 4000; i != 5000; ++i) f.remove(i);
        };
        const prom::family<prom::gauge, "l"> f{"f", "h", {.registry = mine.get()}};
        for (int i = 0; i != 5000; ++i) f(i).set(i);
        static const prom::family<prom::gauge, "l">* shared;
        static std::thread other;
        shared = &f;
        steps = 0;
        at_step = [] {
            if (steps != 700) return;
            at_step = nullptr;
            const unsigned waited = state.waiting;
            other = std::thread([] { act(*shared); });
            while (__atomic_load_n(&state.waiting, __ATOMIC_RELAXED) == waited) std::this_thread::yield();
        };
        f.clear();
        other.join();
        CHECK(f.size() == (going ? 0 : 100));
        CHECK(lines_with(page_of(*mine), "f{") == (going ? 0 : 100));
    }
}
#endif

// ---- what is done while the lock is held ----

static bool there(const declared& f, std::string_view value) {
    const key_pair key = make_key(value);
    std::uint32_t place = 0;
    const found_record s = find_anywhere(*f.face, f.id, &key, &value, 1, place);
    return s.rec && s.id == s.rec->id;
}
namespace {
struct grown {  // a family of one label, by number
    prom::registry mine;
    declared f;
    family_state* state_of;
    grown() {
        static constexpr std::string_view label_names[] = {"l"};
        const prom::label_names labels(label_names);
        f = declare_or_raise({prom::metric_type::gauge, "f", "h", {.registry = &mine}, &labels});
        state_of = f.face->family;
    }
    void make(int n) const {
        const std::string text = std::to_string(n);
        const std::string_view value = text;
        REQUIRE(make_child(f, &value, 1).id != 0);
    }
    bool remove(int n) const {
        const std::string text = std::to_string(n);
        const std::string_view value = text;
        return remove_child(f, &value, 1);
    }
    bool has(int n) const { return there(f, std::to_string(n)); }
    /// Makes series from `n` on until a table is being copied that has so many places; returns what is next.
    int until_growing(int n, std::size_t places) const {
        while (f.face->older == 0 || size_of(f.face->older) != places) make(n++);
        return n;
    }
};
}  // namespace

TEST_CASE("a table that grows is copied by and by: each series that is made does a little of it, and all are found meanwhile") {
    grown g;
    long most = 0;
    int tables = 0;
    bool was = false;
    for (int n = 0; n != 18000; ++n) {
        steps = 0;
        g.make(n);
        most = std::max(most, steps);
        const bool copied = g.f.face->older != 0;
        if (copied && (!was || n % 500 == 0)) for (int i = 0; i <= n; i += 7) CHECK(g.has(i));
        if (was && !copied) {
            ++tables;
            for (int i = 0; i <= n; i += 7) CHECK(g.has(i));
        }
        was = copied;
    }
    CHECK(tables == 6);  // of 2^10 to 2^15 places
    CHECK(most <= 600);  // 512 of them are a small table's, which is copied at once
    CHECK(longest_way(*g.state_of) < 100);
    CHECK(count_children(g.f) == 18000);
}

TEST_CASE("what is removed while a table is copied is gone from both tables, and may come again") {
    grown g;
    const int all = g.until_growing(0, 16384);
    for (int n = 0; n < 20; ++n) g.make(all + n);  // some places are copied
    REQUIRE(g.f.face->older != 0);
    REQUIRE(g.state_of->moved > 1000);
    for (int n = 0; n < all; n += 3) CHECK(g.remove(n));
    for (int n = 0; n < all; ++n) CHECK(g.has(n) == (n % 3 != 0));
    for (int n = 0; n < all; n += 30) CHECK_FALSE(g.remove(n));
    REQUIRE(g.f.face->older != 0);
    for (int n = 0; n < 100 * 3; n += 3) g.make(n);  // with the records of those
    for (int n = 0; n < all; ++n) CHECK(g.has(n) == (n % 3 != 0 || n < 300));
    // Pages finish it, where no more are made.
    while (g.f.face->older != 0) {
        const std::size_t before = g.state_of->moved;
        CHECK(lines_with(page_of(g.mine), "f{") == count_children(g.f));
        REQUIRE((g.f.face->older == 0 || g.state_of->moved > before));
    }
    for (int n = 0; n < all; ++n) CHECK(g.has(n) == (n % 3 != 0 || n < 300));
    CHECK(g.state_of->entries == count_children(g.f));
    CHECK(longest_way(*g.state_of) < 100);
}

TEST_CASE("values that meet in one place while a table is copied: all of both tables gets another seed") {
    grown g;
    const int all = g.until_growing(0, 16384);
    CHECK(g.remove(5));
    const hash_seed known = g.f.face->seed;
    std::vector<std::string> values;
    for (std::uint64_t n = 0; values.size() != 190; ++n) {
        std::string value = printable(n);
        const std::string_view view = value;
        const key_pair key = make_key(view);
        if ((hash_values(known, &key, &view, 1) & 32767) >> 5 == 5) values.push_back(std::move(value));
    }
    const family_face& face = *g.f.face;
    std::size_t made = 0;
    for (; face.seed.low == known.low; ++made) {
        REQUIRE(made != values.size());
        REQUIRE(face.older != 0);
        const std::string_view view = values[made];
        make_child(g.f, &view, 1);
    }
    CHECK(face.older == 0);
    CHECK(log2_of(*g.state_of) == 15);
    for (std::size_t i = 0; i != made; ++i) CHECK(there(g.f, values[i]));
    for (int n = 0; n != all; ++n) CHECK(g.has(n) == (n != 5));
    CHECK(longest_way(*g.state_of) < most_probes(15));
}

#if PROMETHEUS_ASYNC_EXCEPTIONS
TEST_CASE("without memory for the next table all is as it was") {
    grown g;
    for (int n = 0; n != 8192; ++n) g.make(n);  // one more is too many
    const std::size_t kept = std::exchange(state.free_tables[15].size, 0);  // what earlier tests left
    for (const bool again : {false, true}) {
        fixed::maps = false;
        const std::string_view value = "one more";
        CHECK_THROWS_AS(make_child(g.f, &value, 1), std::bad_alloc);
        fixed::maps = true;
        CHECK(g.f.face->older == 0);
        CHECK(g.state_of->entries == 8192);
        CHECK(count_children(g.f) == 8192);
        CHECK_FALSE(there(g.f, value));
        if (again) make_child(g.f, &value, 1);
        CHECK(there(g.f, value) == again);
        for (int n = 0; n != 8192; ++n) CHECK(g.has(n));
    }
    state.free_tables[15].size = kept;
}
#endif

#if !PROMETHEUS_ASYNC_NO_THREADS
/// The most that was done at once while the lock was held.
template <class Work>
static long at_once(Work work) {
    since_release = most_held = steps = 0;
    work();
    return most_held;
}

TEST_CASE("however many series there are, the lock is given back after a bounded piece of work") {
    constexpr int many = 12000;
    constexpr long bound = 512 + 512 + 1024 + 512 + 300;  // removed or copied, settled, recycled, compacted, cleared
    const auto filled = [](grown& g) {
        for (int n = 0; n != many; ++n) g.make(n);
    };
    auto g = std::make_unique<grown>();
    CHECK(at_once([&] { filled(*g); }) <= 700);
    // Compaction: by one removal after another, by those who remove the rest, and by those who make more.
    CHECK(at_once([&] { for (int n = 0; n != many / 2; ++n) CHECK(g->remove(n)); }) <= bound);
    CHECK(g->state_of->copied != 0);
    CHECK(at_once([&] { CHECK(lines_with(page_of(g->mine), "f{") == many / 2); }) <= 5200);
    for (int n = 0; n != 200; ++n) g->make(n);
    CHECK(g->state_of->copied == 0);
    CHECK(g->state_of->lines.size < many / 2 + 300);
    CHECK(at_once([&] { clear_children(g->f); }) <= bound);
    CHECK(steps >= many / 2);
    CHECK(g->state_of->lines.size < 64);
    CHECK(lines_with(page_of(g->mine), "f{") == 0);
    filled(*g);
    CHECK(at_once([&] { g.reset(); }) <= bound);
    CHECK(steps >= many);
    CHECK(state.uncleared_tables.empty());
}

TEST_CASE("series that are removed and made while their lines are compacted are shown as they are") {
    grown g;
    for (int n = 0; n != 8000; ++n) g.make(n);
    for (int n = 0; n != 4000; ++n) CHECK(g.remove(2 * n));
    REQUIRE(g.state_of->copied != 0);
    REQUIRE(g.state_of->copied < g.state_of->lines.size);
    CHECK(g.remove(1));     // is copied
    REQUIRE(g.state_of->compacted.size < g.state_of->compacted.room);
    *g.state_of->compacted.end() = line(reinterpret_cast<record*>(std::uintptr_t{64}));  // who looks at what is no copy ends
    CHECK(g.remove(7999));  // is not
    g.make(0);
    std::string expected;
    for (int n = 3; n < 7999; n += 2) expected += "f{l=\"" + std::to_string(n) + "\"} 0\n";
    expected += "f{l=\"0\"} 0\n";
    for (int i = 0; i != 3; ++i) {
        const std::string page = page_of(g.mine);
        CHECK(page.substr(page.find("f{")) == expected);
    }
    CHECK(g.state_of->copied == 0);
    CHECK(g.state_of->lines.size == count_children(g.f) + 1);  // and the one that went after it had been copied
}

TEST_CASE("tables of families that are gone are used again, each at its size, and one tombstone is enough for all") {
    const auto round = [] {
        grown small, large;
        for (int n = 0; n != 600; ++n) small.make(n);
        large.until_growing(0, 2048);
        CHECK(large.remove(2));
        const record* const stone = state.tombstone;
        grown other;
        other.until_growing(0, 1024);
        CHECK(state.tombstone == stone);
        CHECK(other.remove(1));
        for (int n = 5000; large.f.face->older != 0; ++n) large.make(n);
        CHECK(large.state_of->entries == count_children(large.f));
        for (int n = 0; n != 500; ++n) CHECK(large.has(n) == (n != 2));
    };
    round();
    const auto made = state.all_tables_made;
    for (int i = 0; i != 3; ++i) round();
    CHECK(state.all_tables_made == made);
    while (state.clear_tables()) {}
    std::size_t pooled = 0;
    for (const auto& pool : state.free_tables) pooled += pool.size;
    round();
    while (state.clear_tables()) {}
    for (const auto& pool : state.free_tables) pooled -= pool.size;
    CHECK(pooled == 0);
}

#if !PROMETHEUS_ASYNC_NO_THREADS
static int steps_without_lock = 0;

TEST_CASE("a page has the lock at each step, whatever collectors it called, and gives back only what it has") {
    prom::registry mine;
    std::optional<prom::collector_handle> ends_itself;
    int told = 0, called = 0;
    ends_itself.emplace(mine.add_collector([&](prom::sample_sink&) { ++called; ends_itself.reset(); }));
    const auto fails = mine.add_collector([&](prom::sample_sink& to) { ++called; to.fail("it fails"); });
    const auto yields = mine.add_collector([&](prom::sample_sink& to) {
        ++called;
        to.family(prom::metric_type::gauge, "yielded", "h");
        to.sample(1);
    });
    const prom::family<prom::counter, "l"> f{"f", "h", {.registry = &mine}};
    for (int n = 0; n != 3000; ++n) f(n).inc();
    const prom::page_options options{.on_event = [](const prom::event&, void* n) { ++*static_cast<int*>(n); }, .context = &told};
    prom::registry none;
    static_cast<void>(page_of(none, options));  // tells of what earlier tests did
    f("\xff").inc(-1);
    told = unlocked_twice = 0;
    at_step = [] {
        if (!state.lock.try_lock()) return;
        state.lock.unlock();
        ++steps_without_lock;
    };
    for (int i = 0; i != 2; ++i) {
        steps = 0;
        const std::string page = page_of(mine, options);
        CHECK(lines_with(page, "f_total{") == 3001);
        CHECK(lines_with(page, "yielded 1") == 1);
        CHECK(steps > 0);
    }
    at_step = nullptr;
    CHECK(called == 5);
    CHECK(told == 4);  // what was not UTF-8, and no step; a collector that failed, twice
    CHECK(steps_without_lock == 0);
    CHECK(unlocked_twice == 0);
}
#endif

TEST_CASE("a handle of a series that was removed changes nothing of the series that has its memory now") {
    prom::registry mine;
    const auto record_in = [&](const char* family) { return registry_state::peek(mine)->find(family)->lines.back().living(); };
    const auto moved = [&](const char* family, auto& f, auto act, auto fresh) {
        CAPTURE(family);
        auto old = f("a");
        act(old);
        const record* const was = record_in(family);
        CHECK(f.remove("a"));
        auto now = f("b");
        for (int i = 0; i != 8 && record_in(family) != was; ++i) f.remove("b"), now = f("b");
        REQUIRE(record_in(family) == was);
        const std::string before = page_of(mine, {.as = prom::format::openmetrics_1_0_0});
        act(old);
        CHECK(page_of(mine, {.as = prom::format::openmetrics_1_0_0}) == before);
        fresh(now);
        CHECK(page_of(mine, {.as = prom::format::openmetrics_1_0_0}) != before);
        f.clear();
    };
    const prom::family<prom::counter, "l"> c{"c", "h", {.registry = &mine}};
    moved("c", c, [](auto& m) { m.inc(7); m.inc(1, {.labels = {{"trace", "x"}}}); CHECK((m.value() == 8 || m.value() == 0)); }, [](auto& m) { m.inc(); });
    moved("c", c, [](auto& m) { m.inc(); m.reset(); }, [](auto& m) { m.inc(); });
    const prom::family<prom::gauge, "l"> g{"g", "h", {.registry = &mine}};
    moved("g", g, [](auto& m) { m.set(5); m.inc(); m.dec(9); CHECK((m.value() == -3 || m.value() == 0)); }, [](auto& m) { m.set(1); });
    const prom::family<prom::histogram, "l"> h{"h", "h", {.registry = &mine}};
    moved("h", h, [](auto& m) { m.observe(5); m.observe(0.5, {.labels = {{"trace", "x"}}}); }, [](auto& m) { m.observe(1); });
    moved("h", h, [](auto& m) { m.observe(5); m.reset(); }, [](auto& m) { m.observe(1); });
    const prom::family<prom::summary, "l"> s{"s", "h", {.registry = &mine}};
    moved("s", s, [](auto& m) { m.observe(5); }, [](auto& m) { m.observe(1); });
    const prom::family<prom::min_max_gauge, "l"> x{"x", "h", {.registry = &mine}};
    moved("x", x, [](auto& m) { m.observe(5); }, [](auto& m) { m.observe(1); });
    const prom::family<prom::state_set, "l"> states{"states", "h", {.registry = &mine, .states = {"on", "off", "broken"}}};
    moved("states", states, [](auto& m) { m.set("broken"); }, [](auto& m) { m.set("off"); });
}

TEST_CASE("lookups without the lock find what is there, and only that, while tables grow and others are removed") {
    grown g;
    std::vector<std::string> kept;
    std::vector<std::uint64_t> ids;
    for (int n = 0; n != 100; ++n) {
        kept.push_back("kept " + std::to_string(n));
        const std::string_view value = kept.back();
        ids.push_back(make_child(g.f, &value, 1).id);
    }
    bool over = false;
    long wrong = 0, found = 0, missed = 0;
    std::vector<std::thread> readers;
    for (int t = 0; t != 2; ++t)
        readers.emplace_back([&] {
            long strange = 0, good = 0, none = 0;
            do {
                for (std::size_t i = 0; i != kept.size(); ++i) {
                    const std::string_view value = kept[i];
                    const key_pair key = make_key(value);
                    std::uint32_t place = 0;
                    const found_record s = find_anywhere(*g.f.face, g.f.id, &key, &value, 1, place);
                    if (!s.rec) ++none;  // would be confirmed under the lock
                    else if (s.id == ids[i]) ++good;
                    else ++strange;
                }
            } while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE));
            const global_lock lock;
            wrong += strange, found += good, missed += none;
        });
    for (int n = 0; n != 3000; ++n) {
        g.make(n);
        if (n % 2 == 0) CHECK(g.remove(n / 2));
    }
    __atomic_store_n(&over, true, __ATOMIC_RELEASE);
    for (std::thread& t : readers) t.join();
    CHECK(wrong == 0);
    CHECK(found > missed);
    for (std::size_t i = 0; i != kept.size(); ++i) CHECK(there(g.f, kept[i]));
    CHECK(count_children(g.f) == 100 + 3000 - 1500);
}

TEST_CASE("the counts of a thread that ends are folded in portions, and so is what it owes settled") {
    constexpr int many = 6000;
    prom::registry mine;
    const prom::family<prom::counter, "l"> f{"f", "h", {.registry = &mine}};
    const prom::family<prom::gauge, "l"> g{"g", "h", {.registry = &mine}};
    std::vector<prom::counter> counts;
    std::vector<prom::gauge> gauges;
    for (int n = 0; n != many; ++n) counts.push_back(f(n)), gauges.push_back(g(n));
    const auto update = [&](bool twice) {
        for (int n = 0; n != many; ++n)
            for (int i = 0; i != (twice ? 80 : 40); ++i) {
                counts[static_cast<std::size_t>(n)].inc();
                gauges[static_cast<std::size_t>(n)].inc();
            }
    };
    update(false);
    std::thread other([&] {
        update(true);
        std::size_t own = 0;
        for (std::uint32_t p = 0; p != this_record->block.count; ++p) own += this_record->block.pages[p] != nowhere;
        CHECK(own * page_cells > many * 2);
        for (int n = 0; n != many; ++n) CHECK(g.remove(n));
        since_release = most_held = steps = 0;
    });
    other.join();
    CHECK(steps >= many);
    CHECK(most_held <= 1100);
    double all = 0;
    for (const prom::counter& c : counts) all += c.value();
    CHECK(all == 120.0 * many);
    CHECK(at_once([&] { prom::gauge("other", "h", {.registry = &mine}).set(1); }) <= 2000);
    g.clear();

    // Owed by a thread that lives: what others removed.
    std::mutex turn;
    std::condition_variable changed;
    int step = 0;
    const auto wait = [&](int until) {
        std::unique_lock hold(turn);
        changed.wait(hold, [&] { return step == until; });
    };
    const auto go = [&](int to) {
        const std::lock_guard hold(turn);
        step = to;
        changed.notify_all();
    };
    gauges.clear();
    for (int n = 0; n != many; ++n) gauges.push_back(g(n));
    std::thread third([&] {
        for (const prom::gauge& one : gauges) for (int i = 0; i != 40; ++i) one.inc();
        go(1);
        wait(2);
        since_release = most_held = steps = 0;
        prom::counter last = f("new");
        for (int i = 0; i != 100; ++i) last.inc();
        CHECK(most_held <= 1700);
        since_release = most_held = steps = 0;
    });
    wait(1);
    for (int n = 0; n != many; ++n) CHECK(g.remove(n));
    go(2);
    third.join();
    CHECK(steps >= many / 2);
    CHECK(most_held <= 1100);
    CHECK(f("new").value() == 100);
}
#endif

// ---- bounds ----

TEST_CASE("bounds are found at once among any number, and go with the last who may use them") {
    const std::size_t before = state.bounds_count;
    std::vector<std::unique_ptr<prom::registry>> many;
    std::vector<prom::histogram> stale;
    constexpr int registries = 3000;
    long most = 0, all = 0;
    for (int i = 0; i != registries; ++i) {
        many.emplace_back(new prom::registry);
        for (const bool again : {false, true}) {
            steps = 0;
            stale.push_back(many.back()->make_histogram("h", "h", {.buckets = {i + 1.0, i + 2.5}}));
            most = std::max(most, steps);
            all += steps;
            stale.back().observe(i + 2);
            CHECK(stale.back().count() == (again ? 2 : 1));
        }
        CHECK_FALSE(many.back()->try_histogram("h", "h", {.buckets = {i + 1.0, i + 7.5}}));  // leaves nothing
        CHECK_FALSE(many.back()->try_histogram("h", "h", {.buckets = {-3, i + 0.5}, .states = {"s"}}));
    }
    CHECK(state.bounds_count == before + registries);
    CHECK(most < 20);
    CHECK(all < 3 * registries);
    many.clear();
    CHECK(state.bounds_count == before);
    for (const prom::histogram& h : stale) {
        h.observe(1);
        h.observe(1, {{{"id", "7"}}});
        CHECK(h.count() == 0);
    }
}
#if !PROMETHEUS_ASYNC_NO_THREADS
TEST_CASE("bounds that another thread may be reading stay until it has come by, or ended") {
    const std::size_t before = state.bounds_count;
    std::mutex gate;
    std::condition_variable turned;
    int turn = 0;
    const auto wait_for = [&](int n) {
        std::unique_lock<std::mutex> lock(gate);
        turned.wait(lock, [&] { return turn == n; });
    };
    const auto set = [&](int n) {
        const std::lock_guard<std::mutex> lock(gate);
        turn = n;
        turned.notify_all();
    };
    for (const bool comes_by : {false, true}) {
        turn = 0;
        std::unique_ptr<prom::registry> mine(new prom::registry);
        const prom::family<prom::histogram, "l"> f{"h", "h", {.registry = mine.get(), .buckets = {77, 78}}};
        const prom::histogram h = f("x");
        prom::registry other;
        const prom::counter c = other.make_counter("c", "h");
        std::thread thread([&] {
            for (int i = 0; i != 40; ++i) h.observe(1);  // enough for a run of its own
            set(1);
            wait_for(2);
            h.observe(1);  // drops, but reads the bounds
            for (int i = 0; comes_by && i != 40; ++i) c.inc();
            set(3);
            wait_for(4);
            h.observe(1);
        });
        wait_for(1);
        mine.reset();
        CHECK(state.bounds_count == before + 1);
        set(2);
        wait_for(3);
        CHECK(state.bounds_count == before + !comes_by);
        set(4);
        thread.join();
        CHECK(state.bounds_count == before);
        f("x").observe(1);
    }
}
#endif

TEST_CASE("a metric is unregistered by its name or its base name, and registries may go in any order") {
    std::unique_ptr<prom::registry> many[5];
    for (auto& r : many) {
        r.reset(new prom::registry);
        r->make_counter("c", "h");
        r->make_info("i", "h");
        r->make_gauge("g", "h");
        for (const char* none : {"x", "g_total", "c_info", "_total", "", "i_total"}) CHECK_FALSE(r->unregister(none));
        CHECK(r->unregister("c_total"));
        CHECK_FALSE(r->unregister("c"));
        r->make_counter("c", "h");
        CHECK(r->unregister("c"));
        CHECK(r->unregister("i_info"));
        CHECK(page_of(*r) == "# HELP g h\n# TYPE g gauge\ng 0\n");
    }
    for (int i : {2, 0, 4}) {
        many[i].reset();
        for (const auto& r : many) if (r) CHECK(page_of(*r) == "# HELP g h\n# TYPE g gauge\ng 0\n");
    }
}

// Checks the protocol of rooms [16], [22] and [42] in every order in which its steps can take effect, weak memory
// included, and checks that this finds an error in every mutant: a protocol with one ordering weakened or one step moved.
//
// The memory model is that of C++20 without reads from the future (RC11), as a machine: each location has a list of
// values in modification order, each thread a view (the oldest value of each location that it may still read). A load
// takes any value that is not older than the view; an acquire load takes over the view of a release store that it
// reads; a read-modify-write stands directly after what it read; a store may stand anywhere after the view.
// Sequentially consistent accesses are ordered per location only, which allows more than C++ does. The lock hands its
// holder's view to the next one. What a processor does besides (a load after a later store) needs no model here: each
// step that matters depends on a load before it, or is a release.
//
// A program is a list of steps for each thread. All interleavings and all choices of values are followed, each state once.
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace {

enum order : std::uint8_t { relaxed, acquire, release, seq_cst };

// Locations. A series is `a` at first; it is removed, and then `b` is made of the same cells and the same record.
enum location : std::uint8_t { tag, cells, epoch0, epoch1, own_tag, own_cells, value, handle, version, entry, older, key, ident, owed, locations };
enum : int { none = 0, a = 1, b = 2, dead = 100 };

constexpr int registers = 6;
struct operand {  // a number and up to two registers of the thread, added
    int number = 0;
    int one = -1, other = -1;
    operand(int n) : number(n) {}
    operand(int n, int first, int second) : number(n), one(first), other(second) {}
};
operand r(int i, int plus = 0) { return {plus, i, -1}; }
operand sum(int i, int j) { return {0, i, j}; }

struct step {
    enum kind : std::uint8_t { load, store, add, lock, unlock, everyone_fences, jump_if_equal, jump_unless_equal, jump, set, expect, fail_if_less, end };
    kind what = end;
    location at = tag;
    int to = 0;  // register, or step
    operand x = 0, y = 0;
    order as = relaxed;
};

/// The steps of one thread, written in order; labels are numbers that place() gives a position.
struct program {
    std::vector<step> steps;
    std::vector<std::size_t> places;

    program& push(step s) { steps.push_back(s); return *this; }
    program& load(int to, location at, order as) { return push({step::load, at, to, 0, 0, as}); }
    program& store(location at, operand x, order as) { return push({step::store, at, 0, x, 0, as}); }
    program& add(location at, operand x) { return push({step::add, at, 0, x, 0, relaxed}); }
    program& lock() { return push({step::lock}); }
    program& unlock() { return push({step::unlock}); }
    program& everyone_fences() { return push({step::everyone_fences}); }
    program& set(int to, operand x) { return push({step::set, tag, to, x}); }
    program& jump_if(operand x, operand y, int label) { return push({step::jump_if_equal, tag, label, x, y}); }
    program& jump_unless(operand x, operand y, int label) { return push({step::jump_unless_equal, tag, label, x, y}); }
    program& jump(int label) { return push({step::jump, tag, label}); }
    /// An update of this series began, which must be in its total in the end.
    program& expect(int series) { return push({step::expect, tag, series}); }
    program& fail_if_less(operand x, operand y) { return push({step::fail_if_less, tag, 0, x, y}); }
    int label() { places.push_back(0); return static_cast<int>(places.size()) - 1; }
    program& place(int label) { places[static_cast<std::size_t>(label)] = steps.size(); return *this; }
};

using view = std::array<std::uint8_t, locations>;
void join(view& to, const view& from) { for (std::size_t i = 0; i != locations; ++i) if (to[i] < from[i]) to[i] = from[i]; }

struct message {
    int value;
    view released;     // what an acquire load takes over
    bool taken;        // a read-modify-write stands directly after it
};
struct thread_state {
    std::uint8_t pc = 0;
    std::array<int, registers> regs{};
    view seen{};
};
struct machine {
    std::array<std::vector<message>, locations> memory;
    std::vector<thread_state> threads;
    int holder = -1;
    view lock_view{}, last_seq_cst{}, fences{};
    std::array<int, 3> expected{};

    void each_view(const std::function<void(view&)>& f) {
        for (auto& t : threads) f(t.seen);
        for (auto& all : memory) for (auto& m : all) f(m.released);
        f(lock_view), f(last_seq_cst), f(fences);
    }
    /// What no thread can read any more is forgotten, so that states become equal.
    void forget() {
        for (std::size_t l = 0; l != locations; ++l) {
            std::uint8_t least = 255;
            for (const auto& t : threads) least = std::min(least, t.seen[l]);
            if (least == 0) continue;
            memory[l].erase(memory[l].begin(), memory[l].begin() + least);
            each_view([&](view& v) { v[l] = static_cast<std::uint8_t>(v[l] < least ? 0 : v[l] - least); });
        }
    }
    std::string text() const {
        std::string out;
        const auto put = [&](int n) { out.append(reinterpret_cast<const char*>(&n), 2); };
        const auto put_view = [&](const view& v) { out.append(reinterpret_cast<const char*>(v.data()), v.size()); };
        for (const auto& all : memory) {
            put(static_cast<int>(all.size()));
            for (const auto& m : all) put(m.value), put_view(m.released), put(m.taken);
        }
        for (const auto& t : threads) {
            put(t.pc), put_view(t.seen);
            for (int x : t.regs) put(x);
        }
        put(holder), put_view(lock_view), put_view(last_seq_cst), put_view(fences);
        for (int n : expected) put(n);
        return out;
    }
    int last(location l) const { return memory[l].back().value; }
    static int number(const thread_state& t, const operand& x) {
        const auto in = [&](int reg) { return reg < 0 ? 0 : t.regs[static_cast<std::size_t>(reg)]; };
        return x.number + in(x.one) + in(x.other);
    }
};

struct scenario {
    std::vector<program> programs;
    std::array<int, locations> start{};
    std::function<bool(const machine&)> right;  // of an end state
};

class explorer {
public:
    explicit explorer(const scenario& s) : all_(s) {}
    /// True when no order of steps leads to an error.
    bool run() {
        machine m;
        for (std::size_t l = 0; l != locations; ++l) m.memory[l].push_back({all_.start[l], {}, false});
        m.threads.resize(all_.programs.size());
        for (std::size_t t = 0; t != m.threads.size(); ++t) local(m, t);
        todo_.push_back(m);
        while (!todo_.empty() && !failed_) {
            machine next = std::move(todo_.back());
            todo_.pop_back();
            next.forget();
            if (known_.insert(next.text()).second) follow(next);
        }
        return !failed_;
    }
    std::size_t states() const { return known_.size(); }
    bool ended() const { return ended_; }

private:
    const step& at(const machine& m, std::size_t t) const {
        static const step over{};
        const auto& steps = all_.programs[t].steps;
        return m.threads[t].pc < steps.size() ? steps[m.threads[t].pc] : over;
    }
    /// Steps that no other thread can notice are taken at once.
    void local(machine& m, std::size_t t) {
        auto& me = m.threads[t];
        for (;;) {
            const step& s = at(m, t);
            const auto go = [&](bool jump) {
                me.pc = static_cast<std::uint8_t>(jump ? all_.programs[t].places[static_cast<std::size_t>(s.to)] : me.pc + 1U);
            };
            switch (s.what) {
            case step::jump: go(true); break;
            case step::jump_if_equal: go(m.number(me, s.x) == m.number(me, s.y)); break;
            case step::jump_unless_equal: go(m.number(me, s.x) != m.number(me, s.y)); break;
            case step::set: me.regs[static_cast<std::size_t>(s.to)] = m.number(me, s.x), go(false); break;
            case step::expect: ++m.expected[static_cast<std::size_t>(s.to)], go(false); break;
            case step::fail_if_less: failed_ |= m.number(me, s.x) < m.number(me, s.y), go(false); break;
            case step::end: me.regs = {}; return;
            default: return;
            }
        }
    }
    void went(machine m, std::size_t t) {
        ++m.threads[t].pc;
        local(m, t);
        todo_.push_back(std::move(m));
    }
    /// Puts a value directly after place `after` of the location's list.
    static void write(machine& m, std::size_t t, const step& s, int value, std::size_t after) {
        auto& list = m.memory[s.at];
        if (after + 1 != list.size())
            m.each_view([&](view& v) { if (v[s.at] > after) ++v[s.at]; });
        auto& me = m.threads[t];
        me.seen[s.at] = static_cast<std::uint8_t>(after + 1);
        if (s.as == seq_cst) m.last_seq_cst[s.at] = std::max(m.last_seq_cst[s.at], me.seen[s.at]);
        view carried{};
        if (s.as == release || s.as == seq_cst) carried = me.seen;
        if (s.what == step::add) join(carried, list[after].released);  // a release sequence goes on
        list.insert(list.begin() + static_cast<std::ptrdiff_t>(after) + 1, {value, carried, false});
    }
    void follow(const machine& m) {
        bool over = true;
        for (std::size_t t = 0; t != m.threads.size(); ++t) {
            const step& s = at(m, t);
            const auto& me = m.threads[t];
            if (s.what == step::end) continue;
            over = false;
            switch (s.what) {
            case step::load: {
                std::size_t from = me.seen[s.at];
                if (s.as == seq_cst) from = std::max<std::size_t>(from, m.last_seq_cst[s.at]);
                for (std::size_t i = from; i != m.memory[s.at].size(); ++i) {
                    machine next = m;
                    auto& mine = next.threads[t];
                    mine.seen[s.at] = static_cast<std::uint8_t>(i);
                    if (s.as == acquire || s.as == seq_cst) join(mine.seen, m.memory[s.at][i].released);
                    mine.regs[static_cast<std::size_t>(s.to)] = m.memory[s.at][i].value;
                    went(std::move(next), t);
                }
                break;
            }
            case step::store:
            case step::add:
                for (std::size_t i = me.seen[s.at]; i != m.memory[s.at].size(); ++i) {
                    if (m.memory[s.at][i].taken) continue;
                    if (s.as == seq_cst && i < m.last_seq_cst[s.at]) continue;
                    machine next = m;
                    if (s.what == step::add) next.memory[s.at][i].taken = true;
                    write(next, t, s, m.number(me, s.x) + (s.what == step::add ? m.memory[s.at][i].value : 0), i);
                    went(std::move(next), t);
                }
                break;
            case step::lock:
                if (m.holder < 0) {
                    machine next = m;
                    next.holder = static_cast<int>(t);
                    join(next.threads[t].seen, m.lock_view);
                    went(std::move(next), t);
                }
                break;
            case step::unlock: {
                machine next = m;
                next.holder = -1;
                next.lock_view = me.seen;
                went(std::move(next), t);
                break;
            }
            case step::everyone_fences: {  // membarrier(2): a full fence in each thread, wherever it is
                machine next = m;
                join(next.fences, me.seen);
                for (auto& each : next.threads) {
                    join(each.seen, next.fences);
                    next.fences = each.seen;
                }
                join(next.threads[t].seen, next.fences);
                went(std::move(next), t);
                break;
            }
            default: break;
            }
        }
        if (!over) return;
        ended_ = true;
        failed_ |= !all_.right(m);
    }

    const scenario& all_;
    std::vector<machine> todo_;
    std::unordered_set<std::string> known_;
    bool failed_ = false, ended_ = false;
};

// ---- the protocol, as the header has it; what a mutant changes is a member ----

struct protocol {
    // an update of the shared run
    order enter = seq_cst, read_tag = seq_cst, leave = release;
    bool marks_epoch = true, checks_tag = true;
    // a removal, and the use of its cells again
    order write_dead = seq_cst, first_look = seq_cst, second_look = acquire;
    bool looks = true, clears_first = false, clears = true, by_membarrier = false;
    // a handle that is handed on
    order hand_over = release, take_over = acquire;
    // own runs
    bool fold_is_atomic = true, fold_holds_lock = true, forgets_before_fold = false, own_run_cleared = true, remover_clears_own = false;
    bool promotes_under_lock = true;
    // the shared word of a gauge, when a thread with an own run is setting it
    bool rests_for_owners = true, settles_by_forgetting = true;
    // lookups
    order read_version = acquire, read_entry = acquire, read_key = acquire, read_ident = acquire;
    order write_entry = release, write_version = release, write_key = release, write_ident = release;
    bool checks_version = true, bumps = true, bumps_first = false, reuses_first = false;
    // the older table, while it is copied
    bool unlinks_in_older = true, bumps_for_older = true;
};

/// An update of series `id` through the shared run: an addition to its cells, or a store to the word of a gauge.
void shared_update(program& p, const protocol& how, int id, location epoch, int number, bool sets = false) {
    const int out = p.label();
    if (how.marks_epoch) p.store(epoch, 2 * number - 1, how.by_membarrier ? relaxed : how.enter);
    p.load(0, tag, how.by_membarrier ? acquire : how.read_tag);
    if (how.checks_tag) p.jump_unless(r(0), id, out);
    if (sets) p.store(value, 10 * id, relaxed);
    else p.add(cells, 1);
    p.place(out);
    if (how.marks_epoch) p.store(epoch, 2 * number, how.leave);
}
/// Goes to `busy` when a thread may still be in an update that began before.
void await_epoch(program& p, const protocol& how, location epoch, int busy) {
    const int even = p.label();
    if (!how.looks) return;
    p.load(0, epoch, how.by_membarrier ? acquire : how.first_look);
    for (int odd = 1; odd <= 3; odd += 2) {
        const int other = p.label();
        p.jump_unless(r(0), odd, other);
        p.load(1, epoch, how.second_look).jump_if(r(1), odd, busy).jump(even);
        p.place(other);
    }
    p.place(even);
}
/// Removes `a`, and makes `b` of its cells, or of its record, if they may be used again.
void replace(program& p, const protocol& how, location what = cells) {
    const int busy = p.label();
    p.lock();
    if (how.clears_first) p.store(what, 0, relaxed);
    p.store(tag, dead, how.by_membarrier ? relaxed : how.write_dead);
    if (how.by_membarrier) p.everyone_fences();
    await_epoch(p, how, epoch0, busy);
    await_epoch(p, how, epoch1, busy);
    if (how.clears && !how.clears_first) p.store(what, 0, relaxed);
    if (how.remover_clears_own) p.store(own_cells, 0, relaxed).store(own_tag, b, relaxed);
    p.store(tag, b, relaxed);
    p.unlock();
    p.store(handle, b, how.hand_over);
    const int out = p.label();
    p.jump(out).place(busy).unlock().place(out);
}
/// Whoever was told of `b` counts it.
void count_b(program& p, const protocol& how, location epoch, bool sets = false) {
    const int out = p.label();
    p.load(0, handle, how.take_over).jump_unless(r(0), b, out).expect(b);
    shared_update(p, how, b, epoch, 1, sets);
    p.place(out);
}

scenario recycling(const protocol& how) {
    scenario s;
    s.start[tag] = a;
    s.start[cells] = 5;
    s.programs.resize(3);
    shared_update(s.programs[0], how, a, epoch0, 1);
    shared_update(s.programs[0], how, a, epoch0, 2);
    replace(s.programs[1], how);
    count_b(s.programs[2], how, epoch1);
    s.right = [](const machine& m) { return m.last(tag) != b || m.last(cells) == m.expected[b]; };
    return s;
}
scenario recycling_a_gauge(const protocol& how) {
    scenario s;
    s.start[tag] = a;
    s.start[value] = 5;
    s.programs.resize(3);
    shared_update(s.programs[0], how, a, epoch0, 1, true);
    replace(s.programs[1], how, value);
    count_b(s.programs[2], how, epoch1, true);
    s.right = [](const machine& m) { return m.last(tag) != b || m.last(value) == (m.expected[b] ? 10 * b : 0); };
    return s;
}

/// An update of the own run, if the thread has one. It is the only writer of its run, but for promote().
void own_update(program& p, int id) {
    const int out = p.label();
    p.load(0, own_tag, relaxed).jump_unless(r(0), id, out).load(1, own_cells, relaxed).store(own_cells, r(1, 1), relaxed).expect(id).place(out);
}
void promote(program& p, const protocol& how, int id) {
    const int out = p.label();
    if (how.promotes_under_lock) p.lock();
    p.load(0, tag, relaxed).jump_unless(r(0), id, out);
    if (how.own_run_cleared) p.store(own_cells, 0, relaxed);
    p.store(own_tag, id, relaxed).place(out);
    if (how.promotes_under_lock) p.unlock();
}
void fold(program& p, const protocol& how, int id) {
    const int out = p.label();
    if (how.fold_holds_lock) p.lock();
    p.load(0, own_tag, relaxed).jump_unless(r(0), id, out).load(1, own_cells, relaxed);
    if (how.forgets_before_fold) p.store(own_tag, none, relaxed);
    if (how.fold_is_atomic) p.add(cells, r(1));
    else p.load(2, cells, relaxed).store(cells, sum(1, 2), relaxed);
    if (!how.forgets_before_fold) p.store(own_tag, none, relaxed);
    p.place(out);
    if (how.fold_holds_lock) p.unlock();
}
/// A scrape: the total of the series, in register `to`.
void scrape(program& p, int id, int to) {
    const int alone = p.label();
    p.lock().load(1, cells, relaxed).load(2, own_tag, relaxed).set(3, 0).jump_unless(r(2), id, alone).load(3, own_cells, relaxed).place(alone).unlock();
    p.set(to, sum(1, 3));
}
bool total_is(const machine& m, int id) {
    return m.last(cells) + (m.last(own_tag) == id ? m.last(own_cells) : 0) == m.expected[static_cast<std::size_t>(id)];
}

/// A thread counts in the shared run, then in its own, then ends; another counts, and a third scrapes twice.
scenario promotion(const protocol& how) {
    scenario s;
    s.start[tag] = a;
    s.start[own_cells] = 7;  // from a series before
    s.programs.resize(3);
    s.programs[0].expect(a);
    shared_update(s.programs[0], how, a, epoch0, 1);
    promote(s.programs[0], how, a);
    own_update(s.programs[0], a);
    fold(s.programs[0], how, a);
    s.programs[1].expect(a);
    shared_update(s.programs[1], how, a, epoch1, 1);
    scrape(s.programs[2], a, 4);
    scrape(s.programs[2], a, 5);
    s.programs[2].fail_if_less(r(5), r(4));
    s.right = [](const machine& m) { return total_is(m, a); };
    return s;
}
/// A thread counts in its own run of `a` while that becomes `b`, of which it makes a run, and others count too.
scenario own_runs(const protocol& how) {
    scenario s;
    s.start[tag] = s.start[own_tag] = a;
    s.start[cells] = 5;
    s.start[own_cells] = 3;
    s.programs.resize(3);
    program& p = s.programs[0];
    const int out = p.label();
    own_update(p, a);
    p.load(0, handle, how.take_over).jump_unless(r(0), b, out);
    promote(p, how, b);
    own_update(p, b);
    p.place(out);
    own_update(p, a);
    replace(s.programs[1], how);
    count_b(s.programs[2], how, epoch1);
    s.right = [](const machine& m) { return m.last(tag) != b || total_is(m, b); };
    return s;
}
/// A thread sets a gauge that it has a run of, while that is removed and another gauge is made of its record.
scenario resting(const protocol& how) {
    scenario s;
    s.start[tag] = s.start[own_tag] = a;
    s.programs.resize(3);
    program& p = s.programs[0];
    const auto set = [&] {
        const int out = p.label();
        p.load(0, own_tag, relaxed).jump_unless(r(0), a, out).store(value, 10, relaxed).place(out);
    };
    set();
    const int none_owed = p.label();
    p.lock().load(0, owed, relaxed).jump_unless(r(0), 1, none_owed);
    if (how.settles_by_forgetting) p.store(own_tag, none, relaxed);
    p.store(owed, 0, relaxed).place(none_owed).unlock();
    set();
    program& q = s.programs[1];
    const int busy = q.label(), unknown = q.label(), out = q.label();
    q.lock().store(tag, dead, how.write_dead).load(0, own_tag, relaxed).jump_unless(r(0), a, unknown);
    if (how.rests_for_owners) q.store(owed, 1, relaxed);
    q.place(unknown).unlock().lock().load(0, owed, relaxed).jump_if(r(0), 1, busy);
    q.store(value, 0, relaxed).store(tag, b, relaxed).unlock().store(handle, b, how.hand_over).jump(out).place(busy).unlock().place(out);
    count_b(s.programs[2], how, epoch1, true);
    s.right = [](const machine& m) { return m.last(tag) != b || m.last(value) == (m.expected[b] ? 10 * b : 0); };
    return s;
}
/// Two lookups, while `a` leaves the table and its record is used for `b`.
scenario lookups(const protocol& how) {
    scenario s;
    s.start[entry] = s.start[key] = s.start[ident] = a;
    s.programs.resize(3);
    for (int wanted : {a, b}) {
        program& p = s.programs[static_cast<std::size_t>(wanted - 1)];
        const int out = p.label();
        p.load(0, version, how.read_version).load(1, entry, how.read_entry).jump_if(r(1), none, out);
        p.load(2, key, how.read_key).jump_unless(r(2), wanted, out).load(3, ident, how.read_ident);
        if (how.checks_version) p.load(4, version, relaxed).jump_unless(r(4), r(0), out);
        p.fail_if_less(r(3), wanted).fail_if_less(wanted, r(3)).place(out);
    }
    program& p = s.programs[2];
    const auto unlink = [&] { p.store(entry, none, how.write_entry); };
    const auto bump = [&] { if (how.bumps) p.store(version, 1, how.write_version); };
    const auto use_again = [&] { p.store(ident, b, how.write_ident).store(key, b, how.write_key).store(entry, b, how.write_entry); };
    if (how.bumps_first) bump(), unlink(), use_again();
    else if (how.reuses_first) unlink(), use_again(), bump();
    else unlink(), bump(), use_again();
    s.right = [](const machine&) { return true; };
    return s;
}

/// A lookup in the table of now, and then in the older one, in which `a` stands; another family's record may, when that table
/// is used again.
void look_in_both(program& p, const protocol& how) {
    const int out = p.label(), second = p.label(), found = p.label(), ours = p.label();
    p.load(0, version, how.read_version).load(1, entry, how.read_entry).jump_if(r(1), none, second);
    p.place(ours).load(2, key, how.read_key).jump_unless(r(2), a, out).load(3, ident, how.read_ident).jump(found);
    p.place(second).load(1, older, how.read_entry).jump_if(r(1), none, out).jump_if(r(1), a, ours).set(3, r(1));
    p.place(found);
    if (how.checks_version) p.load(4, version, relaxed).jump_unless(r(4), r(0), out);
    p.fail_if_less(r(3), a).fail_if_less(a, r(3)).place(out);
}
/// `a` is copied, is removed while the older table is there, and its record is used for `b`.
scenario removal_while_copied(const protocol& how) {
    scenario s;
    s.start[older] = s.start[key] = s.start[ident] = a;
    s.programs.resize(2);
    look_in_both(s.programs[0], how);
    program& p = s.programs[1];
    p.store(entry, a, how.write_entry).store(entry, none, how.write_entry);
    if (how.unlinks_in_older) p.store(older, none, how.write_entry);
    if (how.bumps) p.store(version, 1, how.write_version);
    p.store(ident, b, how.write_ident).store(key, b, how.write_key);
    // `b` differs in its key; another family may have the same one.
    p.store(key, a, how.write_key);
    s.right = [](const machine&) { return true; };
    return s;
}
/// `a` is copied, then the older table is put away, and another family has a record of the same key there.
scenario older_table_goes(const protocol& how) {
    scenario s;
    s.start[older] = s.start[key] = s.start[ident] = a;
    s.programs.resize(2);
    look_in_both(s.programs[0], how);
    program& p = s.programs[1];
    p.store(entry, a, how.write_entry);
    if (how.bumps_for_older) p.store(version, 1, how.write_version);
    p.store(older, none, how.write_entry).store(older, b, how.write_entry);
    s.right = [](const machine&) { return true; };
    return s;
}

struct checked {
    const char* name;
    scenario (*make)(const protocol&);
};
constexpr checked scenarios[] = {{"recycling cells", recycling}, {"recycling a gauge", recycling_a_gauge}, {"promotion, fold and scrape", promotion},
                                 {"own runs", own_runs}, {"a record rests", resting}, {"lookups", lookups},
                                 {"a removal while a table is copied", removal_while_copied}, {"a table that was copied goes", older_table_goes}};

/// The first scenario that fails, or null.
const char* failing(const protocol& how, bool tell) {
    for (const checked& c : scenarios) {
        const scenario s = c.make(how);
        explorer e(s);
        const bool good = e.run();
        if (tell) std::printf("%-34s %8zu states: %s\n", c.name, e.states(), !good ? "FAILED" : e.ended() ? "right in every order" : "never ended");
        if (!good || !e.ended()) return c.name;
    }
    return nullptr;
}
}  // namespace

int main() {
    int passed = 0, failed = 0;
    const auto count = [&](bool good) { ++(good ? passed : failed); };
    count(failing({}, true) == nullptr);
    protocol fenced;
    fenced.by_membarrier = true;
    std::puts("with membarrier(2) in place of the sequentially consistent accesses:");
    count(failing(fenced, true) == nullptr);

    const auto mutant = [&](const char* what, auto change) {
        protocol how;
        change(how);
        const char* found = failing(how, false);
        std::printf("mutant: %-66s %s\n", what, found ? found : "NOT FOUND");
        count(found != nullptr);
    };
    mutant("an update marks its epoch by a release store", [](protocol& p) { p.enter = release; });
    mutant("an update reads the tag by an acquire load", [](protocol& p) { p.read_tag = acquire; });
    mutant("an update leaves its epoch by a relaxed store", [](protocol& p) { p.leave = relaxed; });
    mutant("an update marks no epoch", [](protocol& p) { p.marks_epoch = false; });
    mutant("an update does not compare the tag", [](protocol& p) { p.checks_tag = false; });
    mutant("a removal writes the tag by a release store", [](protocol& p) { p.write_dead = release; });
    mutant("a removal reads the epochs by acquire loads", [](protocol& p) { p.first_look = acquire; });
    mutant("a removal looks again by a relaxed load", [](protocol& p) { p.second_look = relaxed; });
    mutant("a removal does not look at the epochs", [](protocol& p) { p.looks = false; });
    mutant("a removal clears the cells before it has looked", [](protocol& p) { p.clears_first = true; });
    mutant("cells are used again as they are", [](protocol& p) { p.clears = false; });
    mutant("a handle is handed over by a relaxed store", [](protocol& p) { p.hand_over = relaxed; });
    mutant("a handle is taken over by a relaxed load", [](protocol& p) { p.take_over = relaxed; });
    mutant("a fold loads and stores", [](protocol& p) { p.fold_is_atomic = false; });
    mutant("a fold does not hold the lock", [](protocol& p) { p.fold_holds_lock = false; });
    mutant("a promotion does not hold the lock", [](protocol& p) { p.promotes_under_lock = false; });
    mutant("a promotion does not clear the run", [](protocol& p) { p.own_run_cleared = false; });
    mutant("a removal clears the runs of other threads", [](protocol& p) { p.remover_clears_own = true; });
    mutant("a record does not rest for those who have a run", [](protocol& p) { p.rests_for_owners = false; });
    mutant("a thread settles what it owes and keeps the tag", [](protocol& p) { p.settles_by_forgetting = false; });
    mutant("a lookup does not read the version again", [](protocol& p) { p.checks_version = false; });
    mutant("a lookup reads the entry by a relaxed load", [](protocol& p) { p.read_entry = relaxed; });
    mutant("a lookup reads the key by a relaxed load", [](protocol& p) { p.read_key = relaxed; });
    mutant("a lookup reads the id by a relaxed load", [](protocol& p) { p.read_ident = relaxed; });
    mutant("the table's entry is written by a relaxed store", [](protocol& p) { p.write_entry = relaxed; });
    mutant("the key is written by a relaxed store", [](protocol& p) { p.write_key = relaxed; });
    mutant("the id is written by a relaxed store", [](protocol& p) { p.write_ident = relaxed; });
    mutant("a removal does not bump the version", [](protocol& p) { p.bumps = false; });
    mutant("a removal bumps the version before it unlinks", [](protocol& p) { p.bumps_first = true; });
    mutant("a record is used again before the version is bumped", [](protocol& p) { p.reuses_first = true; });
    mutant("a lookup reads the version by a relaxed load", [](protocol& p) { p.read_version = relaxed; });
    mutant("the version is bumped by a relaxed store", [](protocol& p) { p.write_version = relaxed; });

    mutant("a removal leaves the series in the older table", [](protocol& p) { p.unlinks_in_older = false; });
    mutant("the version is not bumped when the older table goes", [](protocol& p) { p.bumps_for_older = false; });

    std::printf("%d passed, %d failed\n", passed, failed);
    return failed != 0;
}

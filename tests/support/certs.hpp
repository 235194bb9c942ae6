// Certificates for one test program, made by tests/support/make_certs.sh, gone when it ends.
#ifndef TESTS_SUPPORT_CERTS_HPP
#define TESTS_SUPPORT_CERTS_HPP

#include <cstdio>
#include <cstdlib>
#include <string>

struct certs {
    std::string dir;

    certs() {
        char name[] = "/tmp/prometheus_async_certs.XXXXXX";
        if (!mkdtemp(name)) std::abort();
        dir = name;
        if (std::system(("sh tests/support/make_certs.sh " + dir).c_str()) != 0) {
            std::fprintf(stderr, "make_certs.sh failed, see %s/make_certs.log\n", name);
            std::abort();
        }
    }
    certs(const certs&) = delete;
    certs& operator=(const certs&) = delete;
    ~certs() { run("rm -rf " + dir); }

    std::string pem(const char* name) const { return dir + "/" + name + ".pem"; }
    std::string key(const char* name) const { return dir + "/" + name + ".key"; }
    void copy(const std::string& from, const std::string& to) const { run("cp " + from + " " + to); }

    static void run(const std::string& command) {
        if (std::system(command.c_str()) != 0) std::fprintf(stderr, "failed: %s\n", command.c_str());
    }
};

#endif

// A directory for one test, removed with its files at the end.
#pragma once
#include <doctest/doctest.h>

#include <dirent.h>
#include <fstream>
#include <sstream>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

struct folder {
    std::string path;

    explicit folder(const std::string& name) : path("/tmp/prometheus_async_" + name + '_' + std::to_string(::getpid())) {
        REQUIRE(::mkdir(path.c_str(), 0755) == 0);
    }
    folder(const folder&) = delete;
    folder& operator=(const folder&) = delete;
    ~folder() {
        for (const std::string& f : files()) ::unlink((path + '/' + f).c_str());
        ::rmdir(path.c_str());
    }
    std::vector<std::string> files() const {
        std::vector<std::string> found;
        DIR* open = ::opendir(path.c_str());
        while (const dirent* e = ::readdir(open))
            if (e->d_name[0] != '.') found.push_back(e->d_name);
        ::closedir(open);
        return found;
    }
    std::string read(const std::string& name) const {
        std::ostringstream text;
        text << std::ifstream(path + '/' + name).rdbuf();
        return text.str();
    }
};

#!/bin/sh
# prometheus-client-mmap 1.2.9 for Ruby (Debian sid ruby-prometheus-client-mmap 1.2.9-1), for servers of several processes. One would
# guess that marshal_multiprocess writes what client libraries write, only summed up. Each help text is "Multiprocess metric", as the
# files that the processes share have no room for it. The buckets are sorted as text: le="+Inf" comes first and le="10" before le="2",
# where the format wants them to ascend. A bound is spelt as Ruby spells it: 1 and 1.0 of two versions of a program are two series.
. "$(dirname "$0")/lib.sh"
needs sid ruby-prometheus-client-mmap=1.2.9-1
cat > "$lab/page.rb" <<'RB'
require 'prometheus/client'
require 'prometheus/client/formats/text'
folder = ARGV.shift
Prometheus::Client.configuration.multiprocess_files_dir = folder
if ARGV.empty?
  puts Prometheus::Client::Formats::Text.marshal_multiprocess(folder)
else
  Prometheus::Client.configuration.pid_provider = -> { ARGV.join('_') }
  Prometheus::Client.registry.histogram(:wait_seconds, 'Seconds in the queue.', {}, ARGV.map { |b| b.include?('.') ? b.to_f : b.to_i }).observe({}, 3)
end
RB
libraries=$(find "$lab/root/usr/lib/ruby/vendor_ruby" "$lab/root/usr/lib/ruby" "$lab/root/usr/lib/x86_64-linux-gnu/ruby" -maxdepth 1 -type d \( -name '3.*' -o -name vendor_ruby \) | paste -sd:)
gem=$(find "$lab/root" -type d -path '*/gems/prometheus-client-mmap-1.2.9/lib')
extension=$(dirname "$(find "$lab/root" -path '*/extensions/*' -name 'fast_mmaped_file_rs.so')")
ruby() { RUBYLIB=$libraries:$gem:$extension $own "$lab/root/usr/bin/ruby3.3" "$lab/page.rb" "$@"; }
mkdir "$lab/one" "$lab/two"
ruby "$lab/one" 0.5 2 10
ruby "$lab/one" > "$lab/page"
expect "help" "# HELP wait_seconds Multiprocess metric" "$(grep '^# HELP' "$lab/page")"
expect "bounds" '+Inf 0.5 10 2' "$(sed -n 's/.*le="\(.*\)".*/\1/p' "$lab/page" | paste -sd' ')"
ruby "$lab/two" 1 2
ruby "$lab/two" 1.0 2
expect "1 and 1.0" '+Inf 1 1.0 2' "$(ruby "$lab/two" | sed -n 's/.*le="\(.*\)".*/\1/p' | paste -sd' ')"
finish

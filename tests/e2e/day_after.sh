#!/bin/sh
# What examples/prometheus and examples/deploy hold: promtool has nothing against the configurations and the rules, their
# tests pass, real Prometheus servers scrape every job of the configuration, and answer every query of the dashboard.
. "$(dirname "$0")/lib.sh"
ok "there are certificates" sh tests/support/make_certs.sh "$tmp/certs"
cp examples/prometheus/* "$tmp/"
mkdir "$tmp/targets"
printf secret > "$tmp/password"
printf t0ken > "$tmp/token"

for promtool in promtool-2.42 promtool-3; do
    ok "$promtool: the configuration" "$LAB/bin/$promtool" check config "$tmp/prometheus.yml"
    ok "$promtool: the rules" "$LAB/bin/$promtool" check rules "$tmp/rules.yml"
    ok "$promtool: the rules' tests" "$LAB/bin/$promtool" test rules "$tmp/rules_test.yml"
done
ok "promtool-3: the configuration for Prometheus 3" "$LAB/bin/promtool-3" check config "$tmp/prometheus3.yml"
ok "promtool 2.24: the configuration for Consul" "$LAB/prom224/usr/bin/promtool" check config "$tmp/consul.yml"

port_1=$(free_port) port_2=$(free_port) port_3=$(free_port) port_4=$(free_port)
start hello "$B/examples/01_quickstart" "$port_1"
start tenants "$B/examples/20_registries_and_paths" "$port_2"
start tls "$B/examples/08_tls" "$port_3" "$tmp/certs/server.pem" "$tmp/certs/server.key"
start mutual "$B/examples/13_mutual_tls" "$port_4" "$tmp/certs"
start files "$B/examples/12_file_sd" 0 "$tmp/targets/hello.json"
sed -i "s,localhost:9464,127.0.0.1:$port_1,; s,localhost:9465,127.0.0.1:$port_2,; s,localhost:9466,127.0.0.1:$port_3,; s,localhost:9467,127.0.0.1:$port_4,
    s,_interval: 15s,_interval: 1s," "$tmp/prometheus.yml"
# The dashboard's job is one that has everything: the second program's /all, beside the configuration's own jobs.
printf '  - {job_name: everything, metrics_path: /all, static_configs: [{targets: ["127.0.0.1:%s"]}]}\n' "$port_2" >> "$tmp/prometheus.yml"

cat > "$tmp/ask.py" <<'PY'
import json, re, sys, urllib.parse, urllib.request
base, what = f"http://127.0.0.1:{sys.argv[1]}/api/v1/", sys.argv[2]
def query(expr):
    with urllib.request.urlopen(base + "query?" + urllib.parse.urlencode({"query": expr}), timeout=10) as answer:
        return json.load(answer)["data"]["result"]
if what == "up":  # every job of the configuration, each target
    jobs = set(re.findall(r"job_name: (\w+)", open(sys.argv[3]).read()))
    up = {r["metric"]["job"] for r in query("up == 1")}
    down = query("up == 0")
    print("missing:", sorted(jobs - up), "down:", down)
    sys.exit(bool(jobs - up or down))
if what == "rules":
    with urllib.request.urlopen(base + "rules", timeout=10) as answer:
        rules = [r for g in json.load(answer)["data"]["groups"] for r in g["rules"]]
    print([(r["name"], r["health"], r.get("lastError")) for r in rules if r["health"] != "ok"], len(rules))
    sys.exit(len(rules) != int(sys.argv[3]) or any(r["health"] != "ok" for r in rules))
if what == "dashboard":  # each query gives something, but those whose names are given: there is nothing to tell
    board = json.load(open(sys.argv[3]))
    bad = seen = 0
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            job = "hello" if re.search("http_requests_total{job|req_time", target["expr"]) and "async" not in target["expr"] else "everything"
            expr = target["expr"].replace("$__rate_interval", "10s").replace("$job", job).replace("$instance", ".*")
            try:
                found = query(expr)
            except urllib.error.HTTPError as e:
                found = None
                print(panel["title"], expr, e.read().decode())
            seen += 1
            if found is None or not found and panel["title"] not in sys.argv[4:]:
                bad += 1
                print("nothing:", panel["title"], expr)
    variables = [v["query"]["query"] for v in board["templating"]["list"] if v["type"] == "query"]
    for v in variables:
        metric = re.match(r"label_values\((.*), (\w+)\)", v.replace("$job", "hello"))
        if not any(metric[2] in r["metric"] for r in query(metric[1])):
            bad += 1
            print("nothing:", v)
    print(seen, "queries")
    sys.exit(bad or seen < 15)
PY
for prometheus in prometheus-2.42 prometheus-3; do
    port=$(free_port)
    start "$prometheus" "$LAB/bin/$prometheus" --config.file="$tmp/prometheus.yml" --storage.tsdb.path="$tmp/data-$prometheus" \
        --web.listen-address="127.0.0.1:$port" --log.level=warn
    ok "$prometheus scrapes every job" within 60 python3 "$tmp/ask.py" "$port" up "$tmp/prometheus.yml"
    ok "$prometheus evaluates every rule" within 60 python3 "$tmp/ask.py" "$port" rules "$(grep -cE '^ +- (record|alert):' "$tmp/rules.yml")"
    ok "$prometheus answers every query of the dashboard" within 60 python3 "$tmp/ask.py" "$port" dashboard "$tmp/dashboard.json" "What the server noticed"
done

# The container's file: its command builds a program that needs nothing, and so serves from an empty root.
mkdir "$tmp/root"
build=$(sed -n 's/^RUN \(g++ .*\)/\1/p' examples/deploy/Containerfile | sed "s,/src/,,; s,/hello,$tmp/root/hello,; s,-O2,-O0,")
ok "the container's program is built: $build" sh -c "$build 2> '$tmp/warnings'"
ok "it needs no library" sh -c "! ldd '$tmp/root/hello' 2>&1 | grep -q '=>'"
if unshare -r chroot "$tmp/root" /hello x 2>&1 | grep -q 'is no port'; then
    port=$(free_port)
    start empty unshare -r chroot "$tmp/root" /hello "$port"
    ok "it serves from an empty root" within 20 answers "http://127.0.0.1:$port/metrics"
fi
finish

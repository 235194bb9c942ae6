#!/bin/sh
# prometheus_client 0.16.0 (Debian python3-prometheus-client 0.16.0-0.1), its OpenMetrics parser.
# One would guess that a `}` in a quoted exemplar label is text, as it is in a metric's label.
# It ends the exemplar: "Invalid line". -0 also loses its sign, but not in the parser for text 0.0.4.
. "$(dirname "$0")/lib.sh"
debs python3-prometheus-client=0.16.0-0.1
read_page() { PYTHONPATH=$lab/root/usr/lib/python3/dist-packages python3 - "$1" "$2" <<'PY'
import sys
from prometheus_client.parser import text_string_to_metric_families as text
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
page = sys.argv[2].encode().decode("unicode_escape")
try: print([s.value if not s.exemplar else s.exemplar.labels for f in {"text": text, "openmetrics": openmetrics}[sys.argv[1]](page) for s in f.samples])
except ValueError as e: print("refused:", str(e).split(":")[0])
PY
}
expect "} in a label" '[1.0]' "$(read_page openmetrics '# TYPE x counter\nx_total{a="}"} 1.0\n# EOF\n')"
expect "exemplar" "[{'a': 'b'}]" "$(read_page openmetrics '# TYPE x counter\nx_total 1.0 # {a="b"} 1.0\n# EOF\n')"
expect "} in an exemplar" 'refused: Invalid line' "$(read_page openmetrics '# TYPE x counter\nx_total 1.0 # {a="}"} 1.0\n# EOF\n')"
expect "-0 in OpenMetrics" '[0]' "$(read_page openmetrics '# TYPE x gauge\nx -0\n# EOF\n')"
expect "-0 in text" '[-0.0]' "$(read_page text '# TYPE x gauge\nx -0\n')"
finish

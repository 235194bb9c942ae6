"""protobuf_page.py URL [JOB]: a second opinion on the protobuf page. Google's own library decodes it, and its values are those of the
text page of the same moment: of two text pages, fetched before and after it, what is the same in both is compared.

The messages are described here by their numbers and types, which is what is on the wire."""
import math
import re
import sys
import urllib.request

from google.protobuf import descriptor_pb2, descriptor_pool

try:
    from google.protobuf.message_factory import GetMessageClass
except ImportError:  # before 4.22
    from google.protobuf.message_factory import MessageFactory
    GetMessageClass = MessageFactory().GetPrototype

# Of each message: number, name, type; with * it is repeated. A type that is no scalar is another message.
MESSAGES = {
    "Time": [(1, "seconds", "int64"), (2, "nanos", "int32")],
    "Label": [(1, "name", "string"), (2, "value", "string")],
    "Exemplar": [(1, "label", "Label*"), (2, "value", "double"), (3, "time", "Time")],
    "Number": [(1, "value", "double")],
    "Counter": [(1, "value", "double"), (2, "exemplar", "Exemplar"), (3, "start", "Time")],
    "Quantile": [(1, "quantile", "double"), (2, "value", "double")],
    "Summary": [(1, "count", "uint64"), (2, "sum", "double"), (3, "quantile", "Quantile*"), (4, "start", "Time")],
    "Bucket": [(1, "count", "uint64"), (2, "upper", "double"), (3, "exemplar", "Exemplar")],
    "Span": [(1, "offset", "sint32"), (2, "length", "uint32")],
    "Histogram": [(1, "count", "uint64"), (2, "sum", "double"), (3, "bucket", "Bucket*"), (5, "schema", "sint32"),
                  (6, "zero_threshold", "double"), (7, "zero_count", "uint64"), (9, "negative_span", "Span*"),
                  (10, "negative_delta", "sint64*"), (12, "positive_span", "Span*"), (13, "positive_delta", "sint64*"),
                  (15, "start", "Time"), (16, "exemplar", "Exemplar*")],
    "Metric": [(1, "label", "Label*"), (2, "gauge", "Number"), (3, "counter", "Counter"), (4, "summary", "Summary"),
               (5, "untyped", "Number"), (6, "timestamp_ms", "int64"), (7, "histogram", "Histogram")],
    "Family": [(1, "name", "string"), (2, "help", "string"), (3, "type", "int32"), (4, "metric", "Metric*"), (5, "unit", "string")],
}
VALUES = ["counter", "gauge", "summary", "untyped", "histogram", "histogram"]  # by the number of the type


def family_class():
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="page", package="page", syntax="proto2")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, called, kind in fields:
            many = kind.endswith("*")
            kind = kind.rstrip("*")
            made = message.field.add(name=called, number=number, label=field.LABEL_REPEATED if many else field.LABEL_OPTIONAL)
            if kind in MESSAGES:
                made.type, made.type_name = field.TYPE_MESSAGE, ".page." + kind
            else:
                made.type = getattr(field, "TYPE_" + kind.upper())
                made.options.packed = many
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("page.Family"))


def varint(octets, at):
    n = shift = 0
    while True:
        n |= (octets[at] & 127) << shift
        at += 1
        if octets[at - 1] < 128:
            return n, at
        shift += 7


def families(octets):
    made, at = family_class(), 0
    while at != len(octets):
        size, at = varint(octets, at)
        family = made()
        assert at + size <= len(octets), "a message is longer than the page"
        family.ParseFromString(octets[at:at + size])
        again = family.SerializeToString()
        # On a gateway's page repeated numbers stand one by one, and there are fields that are newer than this.
        assert job or sorted(again) == sorted(octets[at:at + size]), "what is written is not what is read: an unknown field, or a length"
        at += size
        yield family


def samples_of(family):
    """(name, labels) and value, as lines have them."""
    for metric in family.metric:
        labels = {x.name: x.value for x in metric.label}
        assert len(labels) == len(metric.label), "a label twice"
        kind = VALUES[family.type]
        assert metric.HasField(kind), f"{family.name} has no {kind}"
        value = getattr(metric, kind)
        if kind in ("counter", "gauge", "untyped"):
            yield (family.name, labels), value.value
            continue
        yield (family.name + "_count", labels), value.count
        yield (family.name + "_sum", labels), value.sum
        if kind == "summary":
            for q in value.quantile:
                yield (family.name, {**labels, "quantile": q.quantile}), q.value
            continue
        buckets = [(b.upper, b.count) for b in value.bucket] or [(math.inf, value.count)]
        for upper, count in buckets:
            yield (family.name + "_bucket", {**labels, "le": upper}), count
        if value.HasField("schema"):
            for sign in ("positive", "negative"):
                spans, deltas = getattr(value, sign + "_span"), getattr(value, sign + "_delta")
                assert sum(s.length for s in spans) == len(deltas), "spans and buckets differ"
                total = 0
                for delta in deltas:
                    total += delta
                    assert total >= 0
                    value.zero_count += total  # so that it is all of them in the end
            assert value.count == value.zero_count or math.isnan(value.sum), f"{family.name}: the count is not that of the buckets"


def key(name, labels):
    def one(label, value):
        return label, (float(value) if label in ("le", "quantile") else value)
    return name, tuple(sorted(one(*l) for l in labels.items()))


def text(page):
    found = {}
    for line in page.decode().splitlines():
        if line.startswith("#") or not line:
            continue
        name, braces, value = re.fullmatch(r'([^ {]+)(\{.*\})? (\S+)', line).groups()
        labels = {n: re.sub(r'\\(.)', lambda e: "\n" if e[1] == "n" else e[1], v)
                  for n, v in re.findall(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"', braces or "")}
        found[key(name, labels)] = float(value)
    return found


def fetch(url, accept):
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=20) as answer:
        return answer.read()


url = sys.argv[1]
job = sys.argv[2] if len(sys.argv) > 2 else None  # of a Pushgateway's page: what else is there is not ours
before = text(fetch(url, "text/plain"))
page = fetch(url, "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
after = text(fetch(url, "text/plain"))
if job:
    before = {k: v for k, v in before.items() if ("job", job) in k[1] and not k[0].startswith("push_")}
decoded, native = {}, 0
for f in families(page):
    native += sum(m.histogram.HasField("schema") for m in f.metric)
    for (name, labels), value in samples_of(f):
        if job and (labels.get("job") != job or name.startswith("push_")):
            continue
        assert key(name, labels) not in decoded, f"{name} {labels} twice"
        decoded[key(name, labels)] = float(value)
still = {k: v for k, v in before.items() if k in after and (after[k] == v or v != v)}
missing = [k for k in still if k not in decoded]
assert len(missing) <= len(still) / 100, f"not on the protobuf page: {missing}"  # some are removed and made again meanwhile
for k, v in still.items():
    if k in missing:
        continue
    assert decoded[k] == v or (v != v and decoded[k] != decoded[k]), f"{k} is {decoded[k]} and not {v}"
print(len(decoded), "samples,", len(still), "of them compared,", native, "native histograms")
assert len(still) > 0.9 * len(decoded) and native > 0

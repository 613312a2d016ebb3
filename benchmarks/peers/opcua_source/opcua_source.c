/* An OPC UA server as devices have it (open62541) that changes many variables fast enough not to hold up whoever measures a client.
 *
 * usage: opcua_source ITEMS CHANGES MIXED
 *   ITEMS variables v0, v1, ... of which CHANGES a second change, in turn; every MIXED-th is an Int32 and the others are Double (0: all are)
 *
 * Namespace urn:blackmass:bench, everything in the folder Bench: `v0` ... only read; `w0` to `w99`, Double, can be written; `identity`, a UInt16,
 * is 4321. The value of a Double is its number of changes + its number / 1e6, so that a client can tell that it is the right one's; of an
 * Int32 the number of changes. A change carries the time at which it was made, and reaches a client as it does from a device: the server looks
 * at a variable each sampling interval, and sends what it found each publishing interval. What changes twice between two looks is sent once.
 *
 * Listens on 127.0.0.1 without security; prints {"port": N, "namespace": its index} when ready. For each line on its standard input it says what
 * it has done since the last one: {"changes": N, "notifications": M}, M being the values that were sent in publications. The line `rate CHANGES`
 * changes the rate as well. Ends when its standard input closes. */
#define _POSIX_C_SOURCE 200809L
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <open62541/server.h>
#include <open62541/server_config_default.h>

#define URI "urn:blackmass:bench"

enum { WRITABLE = 100, IDENTITY = 4321, MANY = 1 << 20 };
static const double TICK = 5.0;        /* [ms] */
static const double SAMPLES = 200e3;   /* a second at most: 1,000 variables each tick */
static const double SAMPLING = 1.0;    /* [ms] at least */
static const double PUBLISHING = 10.0; /* [ms] at least */

static struct {
    UA_NodeId *nodes;
    uint32_t *counts;
    size_t items, mixed, next;
    unsigned long long changes, notifications;
} bench;

static struct pace {
    double rate, since;
    uint64_t done; /* changes since then, which is when the rate was last set */
} pace;

static double now(void) {
    return (double)UA_DateTime_nowMonotonic() / UA_DATETIME_SEC;
}

static void set_pace(double rate) {
    pace = (struct pace){.rate = rate, .since = now()};
}

static void check(UA_StatusCode code, const char *what) {
    if (code == UA_STATUSCODE_GOOD) return;
    fprintf(stderr, "opcua_source: %s: %s\n", what, UA_StatusCode_name(code));
    exit(1);
}

/* Return what a variable shows now, until the next call. */
static UA_Variant value_of(size_t index) {
    static UA_Int32 whole;
    static UA_Double real;
    UA_Variant value;
    whole = (UA_Int32)bench.counts[index];
    real = (UA_Double)bench.counts[index] + (UA_Double)index / 1e6;
    if (bench.mixed > 0 && index % bench.mixed == bench.mixed - 1) {
        UA_Variant_setScalar(&value, &whole, &UA_TYPES[UA_TYPES_INT32]);
    } else {
        UA_Variant_setScalar(&value, &real, &UA_TYPES[UA_TYPES_DOUBLE]);
    }
    return value;
}

/* Change the variables that are due, in turn. */
static void change(UA_Server *server, void *unused) {
    (void)unused;
    uint64_t all = (uint64_t)((now() - pace.since) * pace.rate);
    UA_DataValue data = {.hasValue = true, .hasSourceTimestamp = true, .sourceTimestamp = UA_DateTime_now()};
    for (; pace.done < all; pace.done++, bench.changes++) {
        size_t index = bench.next;
        bench.next = (index + 1) % bench.items;
        bench.counts[index]++;
        data.value = value_of(index);
        check(UA_Server_writeDataValue(server, bench.nodes[index], data), "a change");
    }
}

/* What is really sent passes here, and nothing in the public interface tells as much: the library's own function, which the linker puts ours in
 * front of (-Wl,--wrap=sendResponse). It answers every publish request, and only after its queues have dropped what does not fit in them. */
UA_StatusCode __real_sendResponse(UA_Server *server, void *channel, UA_UInt32 request, void *response, const UA_DataType *type);

UA_StatusCode __wrap_sendResponse(UA_Server *server, void *channel, UA_UInt32 request, void *response, const UA_DataType *type) {
    UA_StatusCode code = __real_sendResponse(server, channel, request, response, type);
    if (code != UA_STATUSCODE_GOOD || type != &UA_TYPES[UA_TYPES_PUBLISHRESPONSE]) return code;
    const UA_NotificationMessage *message = &((const UA_PublishResponse *)response)->notificationMessage;
    for (size_t part = 0; part < message->notificationDataSize; part++) {
        const UA_ExtensionObject *data = &message->notificationData[part];
        if (data->content.decoded.type != &UA_TYPES[UA_TYPES_DATACHANGENOTIFICATION]) continue;
        bench.notifications += ((const UA_DataChangeNotification *)data->content.decoded.data)->monitoredItemsSize;
    }
    return code;
}

static void add(UA_Server *server, UA_NodeId node, UA_Variant value, UA_Byte access) {
    UA_VariableAttributes attributes = UA_VariableAttributes_default;
    attributes.displayName.text = node.identifier.string;
    attributes.value = value;
    attributes.dataType = value.type->typeId;
    attributes.valueRank = UA_VALUERANK_SCALAR;
    attributes.accessLevel = attributes.userAccessLevel = access;
    UA_QualifiedName name = {node.namespaceIndex, node.identifier.string};
    UA_NodeId folder = UA_NODEID_STRING(node.namespaceIndex, "Bench"), type = UA_NS0ID(BASEDATAVARIABLETYPE);
    check(UA_Server_addVariableNode(server, node, folder, UA_NS0ID(ORGANIZES), name, type, attributes, NULL, NULL), "a variable");
}

static void fill(UA_Server *server, UA_UInt16 space) {
    const UA_Byte readable = UA_ACCESSLEVELMASK_READ;
    const UA_Byte writable = readable | UA_ACCESSLEVELMASK_WRITE | UA_ACCESSLEVELMASK_TIMESTAMPWRITE; /* asyncua sends a time with what it writes */
    char name[32];
    UA_NodeId node = UA_NODEID_STRING(space, "Bench"), objects = UA_NS0ID(OBJECTSFOLDER), type = UA_NS0ID(FOLDERTYPE);
    UA_ObjectAttributes folder = UA_ObjectAttributes_default;
    folder.displayName = UA_LOCALIZEDTEXT("", "Bench");
    UA_QualifiedName title = UA_QUALIFIEDNAME(space, "Bench");
    check(UA_Server_addObjectNode(server, node, objects, UA_NS0ID(ORGANIZES), title, type, folder, NULL, NULL), "the folder");
    for (size_t index = 0; index < bench.items; index++) {
        snprintf(name, sizeof name, "v%zu", index);
        bench.nodes[index] = UA_NODEID_STRING_ALLOC(space, name);
        add(server, bench.nodes[index], value_of(index), readable);
    }
    UA_Variant value;
    UA_Double zero = 0.0;
    UA_Variant_setScalar(&value, &zero, &UA_TYPES[UA_TYPES_DOUBLE]);
    for (int index = 0; index < WRITABLE; index++) {
        snprintf(name, sizeof name, "w%d", index);
        add(server, UA_NODEID_STRING(space, name), value, writable);
    }
    UA_UInt16 identity = IDENTITY;
    UA_Variant_setScalar(&value, &identity, &UA_TYPES[UA_TYPES_UINT16]);
    add(server, UA_NODEID_STRING(space, "identity"), value, readable);
}

static UA_Server *made(void) {
    UA_ServerConfig config = {0};
    check(UA_ServerConfig_setMinimal(&config, 0, NULL), "the configuration");
    UA_String_clear(&config.serverUrls[0]);
    config.serverUrls[0] = UA_STRING_ALLOC("opc.tcp://127.0.0.1:0");
    UA_ApplicationDescription *about = &config.applicationDescription;
    UA_ApplicationDescription_clear(about);
    about->applicationUri = UA_STRING_ALLOC(URI ":server");
    about->productUri = UA_STRING_ALLOC(URI ":server");
    about->applicationName = UA_LOCALIZEDTEXT_ALLOC("en", "blackmass bench");
    config.maxNodesPerRead = config.maxNodesPerWrite = config.maxNodesPerBrowse = config.maxNodesPerRegisterNodes = MANY;
    config.maxNodesPerTranslateBrowsePathsToNodeIds = config.maxMonitoredItemsPerCall = config.maxNotificationsPerPublish = MANY;
    config.publishingIntervalLimits.min = PUBLISHING;
    config.queueSizeLimits.max = 1000;
    /* a client that asked for 10,000 variables each millisecond would otherwise have the server do nothing but look at them */
    double least = 1e3 * (double)bench.items / SAMPLES;
    config.samplingIntervalLimits.min = least > SAMPLING ? least : SAMPLING;
    return UA_Server_newWithConfig(&config);
}

/* Answer the lines that have come; return whether there can be more. */
static int answered(void) {
    char line[256];
    double rate;
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    while (poll(&input, 1, 0) > 0) { /* which tells of lines only as long as none waits in a buffer of stdin's */
        if (!fgets(line, sizeof line, stdin)) return 0;
        if (sscanf(line, "rate %lf", &rate) == 1) set_pace(rate);
        printf("{\"changes\": %llu, \"notifications\": %llu}\n", bench.changes, bench.notifications);
        fflush(stdout);
        bench.changes = bench.notifications = 0;
    }
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 4 || (bench.items = strtoull(argv[1], NULL, 10)) == 0) {
        fprintf(stderr, "usage: opcua_source ITEMS CHANGES MIXED\n");
        return 2;
    }
    setvbuf(stdin, NULL, _IONBF, 0);
    bench.mixed = strtoull(argv[3], NULL, 10);
    bench.nodes = calloc(bench.items, sizeof *bench.nodes);
    bench.counts = calloc(bench.items, sizeof *bench.counts);
    UA_Server *server = bench.nodes && bench.counts ? made() : NULL;
    check(server ? UA_STATUSCODE_GOOD : UA_STATUSCODE_BADOUTOFMEMORY, "a server");
    UA_UInt16 space = UA_Server_addNamespace(server, URI);
    fill(server, space);
    check(UA_Server_run_startup(server), "a free port on 127.0.0.1");
    const UA_ApplicationDescription *about = &UA_Server_getConfig(server)->applicationDescription;
    UA_UInt16 port = 0;
    UA_String host, path;
    check(about->discoveryUrlsSize ? UA_parseEndpointUrl(&about->discoveryUrls[0], &host, &port, &path) : UA_STATUSCODE_BADNOTFOUND, "its port");
    printf("{\"port\": %u, \"namespace\": %u}\n", port, space);
    fflush(stdout);
    set_pace(strtod(argv[2], NULL));
    check(UA_Server_addRepeatedCallback(server, change, NULL, TICK, NULL), "a timer");
    while (answered()) UA_Server_run_iterate(server, true); /* waits for a tick at most */
    UA_Server_run_shutdown(server);
    UA_Server_delete(server);
    return 0;
}

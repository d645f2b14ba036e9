#include <librdkafka/rdkafka.h>
// The broker that lives in the library, which tests produce to.
#include <librdkafka/rdkafka_mock.h>

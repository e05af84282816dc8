# `make help` lists what can be made.

CFLAGS ?= -O2 -g
WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion
PORT ?= 8000
# SAN=address,undefined or SAN=thread builds everything apart, under build/$(SAN), with sanitizers.
comma := ,
BUILD := build$(if $(SAN),/$(SAN))
SANITIZE := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all)
COMPILE = $(CC) -std=gnu11 $(CFLAGS) $(WARNINGS) $(SANITIZE) $(CPPFLAGS)
LINK = $(CC) $(CFLAGS) $(SANITIZE) $(LDFLAGS)
# Short lines unless V=1: what is being built.
say = $(if $(V),,@printf '  %-5s %s\n' $(1) '$@';)

# epoll is Linux's own.
CHAPTERS := $(filter-out $(if $(filter Linux,$(shell uname)),,05-epoll),$(wildcard 0[1-9]-*))
# The finished programs lie in their chapters (sanitized ones under build/), objects under build/.
IN := $(if $(SAN),$(BUILD)/)
PROGRAMS := $(foreach c,$(CHAPTERS),$(IN)$(c)/server) \
            $(patsubst %.c,$(IN)%,$(wildcard 0[1-9]-*/client.c))
TOOLS := $(BUILD)/tests/demo $(BUILD)/tests/slow-peer
SUITE := $(BUILD)/tests/suite
BENCH := $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(wildcard tests/bench/*.c))

all: $(PROGRAMS)

help:
	@echo 'make                            builds every chapter'
	@echo 'make demo                       runs every chapter against the same clients and draws it'
	@echo 'make test                       proves the repository right (installs Check if missing)'
	@echo '     CH=05-epoll                one chapter only'
	@echo '     SERVER=path CH=05-epoll    your own program against the suite of the chapter'
	@echo '     SAN=address,undefined      with sanitizers; also SAN=thread'
	@echo 'make run CH=05-epoll PORT=8000  runs one chapter (ARGS=--edge: with these options)'
	@echo 'make diff FROM=03 TO=04         what one chapter changes in the one before'
	@echo 'make bench                      throughput and cost, beside a bare epoll loop and libuv'
	@echo 'make lint, make format          checks, or mends, how the code is written'
	@echo 'make clean                      removes all that was built'

# --- building ---

# A stamp that changes when the compiler or its flags do: then everything is built again.
FLAGS := $(BUILD)/flags
$(FLAGS): FORCE
	@mkdir -p $(@D); echo '$(COMPILE) $(LINK)' | cmp -s - $@ || echo '$(COMPILE) $(LINK)' > $@

$(BUILD)/%.o: %.c $(FLAGS)
	$(call say,CC) mkdir -p $(@D); $(COMPILE) -MMD -MP -c -o $@ $<

# A chapter's server is all the chapter's sources but client.c.
define chapter
$(IN)$(1)/server: $(patsubst %.c,$(BUILD)/%.o,$(filter-out %/client.c,$(wildcard $(1)/*.c)))
endef
$(foreach c,$(CHAPTERS),$(eval $(call chapter,$(c))))
$(filter %/client,$(PROGRAMS)): $(IN)%/client: $(BUILD)/%/client.o

$(BUILD)/tests/demo: $(BUILD)/tests/demo.o $(BUILD)/tests/harness.o
$(BUILD)/tests/slow-peer: $(BUILD)/tests/slow_peer.o
$(SUITE): $(addprefix $(BUILD)/tests/,suite.o test_echo.o test_lessons.o test_clients.o harness.o)
$(SUITE): LDLIBS += $(shell pkg-config --libs check 2>/dev/null || echo -lcheck)
$(addprefix $(BUILD)/tests/,suite.o test_echo.o test_lessons.o test_clients.o): | check-library
$(BENCH): $(BUILD)/bench/%: $(BUILD)/tests/bench/%.o
$(BUILD)/bench/bench: $(BUILD)/tests/harness.o
$(BUILD)/bench/bench: LDLIBS += -lm
$(BUILD)/bench/uv_echo: LDLIBS += -luv

$(PROGRAMS) $(TOOLS) $(SUITE) $(BENCH):
	$(call say,LD) mkdir -p $(@D); $(LINK) -o $@ $^ $(LDLIBS) -pthread

# The one thing that `make test` installs when it is missing.
check-library:
	@sh tests/install_check.sh

# --- what the reader runs ---

run: all
	@test -n "$(CH)" || { echo 'make run CH=05-epoll PORT=8000: which chapter?'; exit 2; }
	@$(IN)$(CH)/server $(ARGS) $(PORT)

diff:
	@test -n "$(FROM)" && test -n "$(TO)" || { echo 'make diff FROM=03 TO=04'; exit 2; }
	@diff -u $(FROM)*/server.c $(TO)*/server.c || test $$? -eq 1

demo: all $(TOOLS)
	@$(BUILD)/tests/demo

test: all $(TOOLS) $(SUITE)
	@CH='$(CH)' SERVER='$(SERVER)' SAN='$(SAN)' BUILD='$(BUILD)' IN='$(IN)' sh tests/run.sh

# uv_echo is built where libuv is.
UV := $(if $(wildcard /usr/include/uv.h /usr/local/include/uv.h /opt/homebrew/include/uv.h),yes)
bench: all $(if $(UV),$(BENCH),$(filter-out %/uv_echo,$(BENCH)))
	@$(BUILD)/bench/bench $(BENCHARGS)

# --- how the code is written ---

SOURCES := $(wildcard 0*/*.[ch] tests/*.[ch] tests/bench/*.[ch])
TIDY := clang-analyzer-*,bugprone-*,performance-*,-bugprone-easily-swappable-parameters,$\
        -clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling
lint:
	clang-format --dry-run -Werror $(SOURCES)
	clang-tidy --quiet --warnings-as-errors='*' --checks='-*,$(TIDY)' $(filter %.c,$(SOURCES)) \
		-- -std=gnu11 $(WARNINGS)

format:
	clang-format -i $(SOURCES)

clean:
	rm -rf build $(foreach c,$(CHAPTERS),$(c)/server $(c)/client)

FORCE:
.PHONY: all help check-library run diff demo test bench lint format clean FORCE
.SECONDARY:
.DELETE_ON_ERROR:
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

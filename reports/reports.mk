# What the pages embed. The assembler reads these files, so header tracking does not see them.
# Chart.js comes from Debian's libjs-chart.js; another copy of version 3.9: make CHART_JS=FILE.
CHART_JS ?= /usr/share/javascript/chart.js/chart.min.js

$(B)/reports/html_asset.o: reports/report.css reports/report.js $(CHART_JS)
$(B)/reports/html_asset.o: CPPFLAGS += -DREPORT_CHART_JS='"$(CHART_JS)"'

$(CHART_JS):
	@echo "$@ is missing: install libjs-chart.js, or give CHART_JS=FILE" >&2; exit 1

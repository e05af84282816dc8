#!/usr/bin/env python3
"""The live page of chapter 09, pressed and looked at in a real browser. Prints TAP lines.

    test_page.py SERVER [FOLDER]     FOLDER: where to leave screenshots

Speaks to chromedriver by the WebDriver protocol (https://www.w3.org/TR/webdriver2/), with nothing
but the standard library. Skipped with a word where chromium or chromedriver is missing.
"""
import base64, json, os, shutil, signal, socket, subprocess, sys, tempfile, time, urllib.request

PATIENCE = float(os.environ.get('PATIENCE', '20'))
failed = 0


def check(title, fine, why=''):
    global failed
    print(('ok' if fine else 'not ok') + ' - page: ' + title + ('' if fine else ': ' + str(why)), flush=True)
    failed += not fine


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class Browser:
    """One chromedriver and one session, both ended by close()."""

    def __init__(self, dark, width, height):
        port = free_port()
        self.base = f'http://127.0.0.1:{port}'
        self.profile = tempfile.mkdtemp()
        self.driver = subprocess.Popen([shutil.which('chromedriver'), f'--port={port}'],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        options = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
                   f'--user-data-dir={self.profile}', f'--window-size={width},{height}']
        if dark:
            options.append('--blink-settings=preferredColorScheme=0')
        wanted = {'browserName': 'chrome', 'goog:chromeOptions': {'args': options, 'binary': shutil.which('chromium')},
                  'goog:loggingPrefs': {'browser': 'ALL'}}
        deadline = time.time() + PATIENCE
        while True:
            try:
                answer = self.call('POST', '/session', {'capabilities': {'alwaysMatch': wanted}})
                break
            except OSError:
                if time.time() > deadline:
                    raise
                time.sleep(0.1)
        self.base += '/session/' + answer['sessionId']

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {'Content-Type': 'application/json'}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as reply:
            return json.load(reply)['value']

    def run(self, script, *args):
        return self.call('POST', '/execute/sync', {'script': script, 'args': list(args)})

    def wait(self, script, seconds=None):
        """Until the script returns something true. Returns that, or what it returned last."""
        deadline = time.time() + (seconds or PATIENCE)
        while not (value := self.run(script)) and time.time() < deadline:
            time.sleep(0.05)
        return value

    def press(self, selector):
        self.run('document.querySelector(arguments[0]).scrollIntoView({block: "nearest"})', selector)
        element = self.call('POST', '/element', {'using': 'css selector', 'value': selector})
        self.call('POST', '/element/' + next(iter(element.values())) + '/click', {})

    def picture(self, path):
        with open(path, 'wb') as file:
            file.write(base64.b64decode(self.call('GET', '/screenshot')))

    def complaints(self):
        return self.call('POST', '/se/log', {'type': 'browser'})

    def close(self):
        try:
            self.call('DELETE', '')
        finally:
            self.driver.terminate()
            self.driver.wait()
            shutil.rmtree(self.profile, ignore_errors=True)


OVER = 'return document.querySelectorAll("#batches tr[data-over]").length >= %d'
ROW = '''const row = document.querySelector('#batches tr[data-kind="%s"]');
return [...row.children].map((cell) => cell.textContent);'''


def fill_in(browser, count, ms, n):
    browser.run('''document.getElementById('count').value = arguments[0];
        document.getElementById('ms').value = arguments[1]; document.getElementById('n').value = arguments[2];''',
                count, ms, n)


def fire(browser, kind, batches):
    browser.press('#fire-' + kind)
    check(kind + ': all are answered', browser.wait(OVER % batches, 60), 'not over')
    row = browser.run(ROW % kind)
    check(kind + ': the table says so', row[1] == row[0].split()[0] and row[2] == '0', row)
    return float(row[3].split()[0]), float(row[4].split()[0])


def use(browser, folder):
    check('the heart beats', browser.wait('return /lag/.test(document.getElementById("pulse").textContent)'))
    check('a cell for each thread and worker', browser.run(
        'return document.querySelectorAll("#threads .cell").length === 4 && '
        'document.querySelectorAll("#workers .cell").length === 2'))
    height = browser.run('return document.body.scrollHeight')
    fill_in(browser, 8, 300, 3000000)
    first, last = fire(browser, 'perfect', 1)
    check('perfect: all at once', last < 2 * 0.3 + 1, last)
    first, last = fire(browser, 'good', 2)
    check('good: 8 on 4 threads take two rounds', last >= 0.6, last)
    check('no gaps in the heartbeat yet', browser.run('return !document.getElementById("strip").dataset.gaps'))
    first, last = fire(browser, 'terrible', 3)
    check('terrible: one after the other', last >= 8 * 0.3, last)
    check('terrible: the heartbeat has gaps', browser.wait('return document.getElementById("strip").dataset.gaps > 0'))
    if folder:
        browser.picture(os.path.join(folder, 'terrible.png'))
    for batch, kind in enumerate(['loop', 'thread', 'process', 'tasks'], 4):
        fire(browser, kind, batch)
    bars = browser.run('''return [...document.querySelectorAll('.bar')].map((bar) =>
        [bar.dataset.state, bar.getBoundingClientRect().width])''')
    check('a bar for each request of the chart, all ended', len(bars) == 8 and
          all(state == 'answered' and width > 0 for state, width in bars), bars)
    check('the spoken summary', browser.run('return document.getElementById("spoken").textContent').startswith('8 times task'))
    grown = browser.run('return document.body.scrollHeight') - height
    check('nothing jumps: only the table grows', grown < 8 * 60, grown)


def look(browser, folder, name):
    browser.wait('return /lag/.test(document.getElementById("pulse").textContent)')
    wide = browser.run('return document.documentElement.scrollWidth - document.documentElement.clientWidth')
    check(name + ': nothing sticks out', wide <= 0, wide)
    fill_in(browser, 40, 500, 3000000)
    browser.press('#fire-good')
    browser.press('#fire-perfect')
    time.sleep(1)
    if folder:
        browser.picture(os.path.join(folder, name.replace(' ', '-') + '.png'))


def get(port, path):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f'http://127.0.0.1:{port}{path}', timeout=60) as reply:
        return json.load(reply)


def refused(browser, port):
    """More than the pool takes: the table says what the server says."""
    for name in ['127.0.0.1', 'localhost']:
        browser.call('POST', '/url', {'url': f'http://{name}:{port}/'})
        before = get(port, '/stats')['threads']['done']
        fill_in(browser, 10, 1000, 1)
        browser.press('#fire-good')
        browser.wait(OVER % 1, 60)
        done = get(port, '/stats')['threads']['done'] - before
        row = browser.run(ROW % 'good')
        check(name + ': some are refused', 0 < done < 10, done)
        check(name + ': as many are answered as the server did', row[1] == str(done), row)
        check(name + ': the others failed, with their status', row[2] == f'{10 - done} (503)', row)
        states = browser.run('return [...document.querySelectorAll(".bar")].map((bar) => bar.dataset.state)')
        check(name + ': so the bars say', states.count('answered') == done and states.count('failed') == 10 - done, states)


SEEN = '''const height = document.documentElement.clientHeight;
return ['strip', 'pulse'].every((id) => {
    const box = document.getElementById(id).getBoundingClientRect();
    const at = document.elementFromPoint(box.left + 5, (box.top + box.bottom) / 2);
    return box.top >= 0 && box.bottom <= height && at && at.id === id;
});'''


def low(browser, name):
    """Whichever button is pressed, the heartbeat is in sight."""
    browser.wait('return /lag/.test(document.getElementById("pulse").textContent)')
    fill_in(browser, 2, 10, 1000)
    for batch, kind in enumerate(['terrible', 'good', 'perfect', 'loop', 'thread', 'process', 'tasks'], 1):
        browser.press('#fire-' + kind)
        check(f'{name}: {kind} leaves the heartbeat in sight', browser.run(SEEN))
        browser.wait(OVER % batch)


def with_browser(port, folder, name, dark, width, height):
    browser = Browser(dark, width, height)
    try:
        browser.call('POST', '/url', {'url': f'http://127.0.0.1:{port}/'})
        if name == 'refused':
            refused(browser, port)
        else:
            if name == 'wide':
                use(browser, folder)
            if 'low' in name:
                low(browser, name)
            look(browser, folder, name)
        complaints = [entry for entry in browser.complaints() if ' 503 ' not in entry['message']]
        check(name + ': no errors on the console', not complaints, complaints)
    finally:
        browser.close()


def main():
    if not (shutil.which('chromium') and shutil.which('chromedriver')):
        print('ok - page: # SKIP no chromium and chromedriver here')
        return
    folder = sys.argv[2] if len(sys.argv) > 2 else None
    for options, visits in [
            (['--threads', '4', '--workers', '2'],
             [('wide', False, 1280, 1000), ('dark', True, 1280, 1000), ('narrow', False, 500, 900),
              ('low', False, 1280, 857), ('lower', False, 1280, 600), ('narrow and low', False, 500, 600)]),
            (['--threads', '1', '--queue', '1', '--workers', '1'], [('refused', False, 1280, 1000)])]:
        server = subprocess.Popen([sys.argv[1], *options, '0'], stdout=subprocess.PIPE, text=True)
        port = int(server.stdout.readline().rsplit(':', 1)[1])
        try:
            for visit in visits:
                with_browser(port, folder, *visit)
        finally:
            server.send_signal(signal.SIGTERM)
            check('the server ends', server.wait(PATIENCE) == 0)

main()
sys.exit(failed > 0)
